"""The chapters, in the order of the notes."""

from benchmarks.notes.densities import DENSITIES
from benchmarks.notes.diffusion import DIFFUSION
from benchmarks.notes.energies import ENERGIES
from benchmarks.notes.estimates import ESTIMATES
from benchmarks.notes.machines import MACHINES
from benchmarks.notes.quality import QUALITY
from benchmarks.notes.scores import SCORES

CHAPTERS = (DENSITIES, MACHINES, ENERGIES, SCORES, DIFFUSION, ESTIMATES, QUALITY)

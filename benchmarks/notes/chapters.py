"""The chapters, in the order of the notes."""

from benchmarks.notes.densities import DENSITIES
from benchmarks.notes.energies import ENERGIES
from benchmarks.notes.machines import MACHINES

CHAPTERS = (DENSITIES, MACHINES, ENERGIES)

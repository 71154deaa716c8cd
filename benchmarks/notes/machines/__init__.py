"""Energies with discrete latent variables: restricted Boltzmann machines."""

from benchmarks.notes.book import Chapter
from benchmarks.notes.machines.conditionals import FACTORISATION, GAUSSIAN, MODES
from benchmarks.notes.machines.contrastive import CONTRASTIVE
from benchmarks.notes.machines.gibbs import CONVERGENCE, SINGLE_SITE

MACHINES = Chapter(
    name="machines",
    title="Restricted Boltzmann machines",
    intro="Energies of visible and binary hidden units, small enough here to sum over all of their states.",
    sections=(FACTORISATION, CONVERGENCE, SINGLE_SITE, MODES, CONTRASTIVE, GAUSSIAN),
)

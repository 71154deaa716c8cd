"""Diffusion models and their stochastic differential equations."""

from benchmarks.notes.book import Chapter
from benchmarks.notes.diffusion.chain import SCHEDULES, STRIPS
from benchmarks.notes.diffusion.equations import BROWNIAN, FOKKER_PLANCK, MARGINALS, ORDERS
from benchmarks.notes.diffusion.trained import TRAINED_STRIPS

DIFFUSION = Chapter(
    name="diffusion",
    title="Diffusion models",
    intro="Noise added step by step, its equation in continuous time, and the way back.",
    sections=(STRIPS, TRAINED_STRIPS, SCHEDULES, BROWNIAN, FOKKER_PLANCK, ORDERS, MARGINALS),
)

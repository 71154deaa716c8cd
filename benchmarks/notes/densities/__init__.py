"""Parameterizing probability distributions."""

from benchmarks.notes.book import Chapter
from benchmarks.notes.densities.closed_forms import CLOSED_FORMS
from benchmarks.notes.densities.oracles import ORACLES
from benchmarks.notes.densities.partition import GRID, NORMALISING

DENSITIES = Chapter(
    name="densities",
    title="Densities from functions",
    intro="What makes a function a probability density, and what it costs.",
    sections=(NORMALISING, CLOSED_FORMS, ORACLES, GRID),
)

"""Evaluating generative models: distances of distributions, and estimates of densities."""

from benchmarks.notes.book import Chapter
from benchmarks.notes.estimates.distances import DISTANCES
from benchmarks.notes.estimates.kernels import BANDWIDTHS, KDE_DIMENSIONS
from benchmarks.notes.estimates.likelihood import STOPPING, WEIGHTING

ESTIMATES = Chapter(
    name="estimates",
    title="Evaluating: distances and densities",
    intro="What models are trained to be near to, and how the density of one is estimated that does not tell it.",
    sections=(DISTANCES, STOPPING, BANDWIDTHS, KDE_DIMENSIONS, WEIGHTING),
)

"""Evaluating generative models: the quality of samples, and of latent representations."""

from benchmarks.notes.book import Chapter
from benchmarks.notes.quality.disentanglement import DISENTANGLEMENT
from benchmarks.notes.quality.distances import BIASES, COSTS, SLICED
from benchmarks.notes.quality.inception import INCEPTION, PICTURES
from benchmarks.notes.quality.representations import CLUSTERS, LATENTS, RATES

QUALITY = Chapter(
    name="quality",
    title="Evaluating: samples and representations",
    intro="What samples look like beside the data, and what latent codes are good for.",
    sections=(INCEPTION, PICTURES, BIASES, COSTS, SLICED, CLUSTERS, LATENTS, RATES, DISENTANGLEMENT),
)

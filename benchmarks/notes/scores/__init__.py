"""Score-based models: fields, noise levels, annealed Langevin dynamics."""

from benchmarks.notes.book import Chapter
from benchmarks.notes.scores.denoising import FIELD, NOISED
from benchmarks.notes.scores.langevin import ANNEALED, LIMIT
from benchmarks.notes.scores.noise_levels import FIELDS, OVERLAPS, WEIGHTS

SCORES = Chapter(
    name="scores",
    title="Score-based models",
    intro="Scores learned from noised data, and chains that follow them.",
    sections=(FIELD, NOISED, LIMIT, FIELDS, WEIGHTS, OVERLAPS, ANNEALED),
)

"""Energies by networks: Langevin dynamics and score matching."""

from benchmarks.notes.book import Chapter
from benchmarks.notes.energies.langevin import DESCENT, STEP_BIAS
from benchmarks.notes.energies.readouts import PLANE_READOUTS, PRICES
from benchmarks.notes.energies.score_matching import BY_PARTS, COST, TWO_SCORES

ENERGIES = Chapter(
    name="energies",
    title="Energies: Langevin dynamics and score matching",
    intro="How an energy is sampled from, and trained without sampling.",
    sections=(PLANE_READOUTS, PRICES, DESCENT, STEP_BIAS, TWO_SCORES, BY_PARTS, COST),
)

"""What can be asked of a trained model: `lightning_gen.ask(lightning_gen.load(run))`."""

from lightning_gen.questions.asking import ANSWERS, Questions
from lightning_gen.questions.base import Answer
from lightning_gen.questions.densities import (
    AnnealedLogProb,
    EnergyRatio,
    EnumeratedLogProb,
    ImportanceLogProb,
    LineIntegral,
    LogProb,
    NormalisedLogProb,
    ODELogProb,
)
from lightning_gen.questions.scores import DenoisedMean, ScoreAt

__all__ = [
    "ANSWERS",
    "AnnealedLogProb",
    "Answer",
    "DenoisedMean",
    "EnergyRatio",
    "EnumeratedLogProb",
    "ImportanceLogProb",
    "LineIntegral",
    "LogProb",
    "NormalisedLogProb",
    "ODELogProb",
    "Questions",
    "ScoreAt",
]

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
from lightning_gen.questions.inpainting import (
    BlockGibbs,
    ClampedLangevin,
    ClampedMetropolis,
    LatentMetropolis,
    MetropolisWithinGibbs,
    Prefix,
    RePaint,
    SiteGibbs,
)
from lightning_gen.questions.inverse import (
    DPS,
    LatentPosterior,
    MomentMatching,
    PosteriorLangevin,
    PosteriorMetropolis,
)
from lightning_gen.questions.latents import Generated
from lightning_gen.questions.modes import Ascent, ConditionalModes, Mode, MostProbableHidden
from lightning_gen.questions.scores import DenoisedMean, ScoreAt

__all__ = [
    "ANSWERS",
    "DPS",
    "AnnealedLogProb",
    "Answer",
    "Ascent",
    "BlockGibbs",
    "ClampedLangevin",
    "ClampedMetropolis",
    "ConditionalModes",
    "DenoisedMean",
    "EnergyRatio",
    "EnumeratedLogProb",
    "Generated",
    "ImportanceLogProb",
    "LatentMetropolis",
    "LatentPosterior",
    "LineIntegral",
    "LogProb",
    "MetropolisWithinGibbs",
    "Mode",
    "MomentMatching",
    "MostProbableHidden",
    "NormalisedLogProb",
    "ODELogProb",
    "PosteriorLangevin",
    "PosteriorMetropolis",
    "Prefix",
    "Questions",
    "RePaint",
    "ScoreAt",
    "SiteGibbs",
]

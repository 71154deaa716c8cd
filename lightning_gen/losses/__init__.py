"""Losses (model, x, generator) -> (B,), and the distributions of training times for denoising score matching."""

from lightning_gen.losses.adversarial import (
    AdversarialLoss,
    FDivergence,
    GradientPenalty,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Penalty,
    Relativistic,
    Wasserstein,
    ZeroCentred,
)
from lightning_gen.losses.base import Loss
from lightning_gen.losses.contrastive import ContrastiveDivergence, RBMContrastiveDivergence
from lightning_gen.losses.elbo import ELBO, IWAE
from lightning_gen.losses.flow_matching import FlowMatching
from lightning_gen.losses.implicit import ExactScoreMatching, SlicedScoreMatching
from lightning_gen.losses.likelihood import NegativeLogLikelihood
from lightning_gen.losses.nce import NCE
from lightning_gen.losses.recovery import RecoveryLikelihood
from lightning_gen.losses.score_matching import DenoisingScoreMatching, edm, vlb
from lightning_gen.losses.times import Times, constant, levels, logit_normal, lognormal, uniform

__all__ = [
    "AdversarialLoss",
    "FDivergence",
    "GradientPenalty",
    "Hinge",
    "LeastSquares",
    "Minimax",
    "NonSaturating",
    "Penalty",
    "Relativistic",
    "Wasserstein",
    "ZeroCentred",
    "ELBO",
    "IWAE",
    "NCE",
    "ContrastiveDivergence",
    "DenoisingScoreMatching",
    "ExactScoreMatching",
    "FlowMatching",
    "Loss",
    "NegativeLogLikelihood",
    "RecoveryLikelihood",
    "RBMContrastiveDivergence",
    "SlicedScoreMatching",
    "Times",
    "constant",
    "edm",
    "levels",
    "logit_normal",
    "lognormal",
    "uniform",
    "vlb",
]

"""Losses (model, x, generator) -> (B,); their options are bound beforehand."""

from lightning_gen.losses.contrastive import ContrastiveDivergence
from lightning_gen.losses.elbo import elbo, iwae
from lightning_gen.losses.implicit import exact, sliced
from lightning_gen.losses.nce import NCE
from lightning_gen.losses.score_matching import Loss, denoising, edm, vlb
from lightning_gen.losses.times import Times, constant, levels, lognormal, uniform

__all__ = [
    "NCE",
    "ContrastiveDivergence",
    "Loss",
    "Times",
    "constant",
    "denoising",
    "edm",
    "elbo",
    "exact",
    "iwae",
    "levels",
    "lognormal",
    "sliced",
    "uniform",
    "vlb",
]

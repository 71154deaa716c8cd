"""Losses (model, x, generator) -> (B,); their options are bound beforehand."""

from lightning_gen.losses.score_matching import Loss, denoising
from lightning_gen.losses.times import Times, levels, uniform

__all__ = ["Loss", "Times", "denoising", "levels", "uniform"]

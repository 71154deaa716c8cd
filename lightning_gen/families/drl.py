"""Diffusion recovery likelihood: a VP process of few steps, and an energy for each of its levels."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from lightning_gen.families.chains import Chains
from lightning_gen.losses import RecoveryLikelihood
from lightning_gen.models import RecoveryEnergy
from lightning_gen.options import Count, Positive, Rate
from lightning_gen.process import VP, DiscreteVP
from lightning_gen.samplers import TiltedLangevin


class DRL(Chains):
    """Energies E(y, k) of the noised data at T levels, trained by the conditionals of each level given the next.

    Learning energy-based models by diffusion recovery likelihood (Gao et al., 2021), https://arxiv.org/abs/2012.08125

    Args:
        net: the network f(y, t), like y, or (B,) for the readout scalar.
        chain: Langevin on the conditional, in training.
        levels: T, >= 1, at equal times of a VP in continuous time; the paper's 6.
        beta_min: beta at t = 0 of the VP, > 0.
        beta_max: beta at t = 1 of the VP, > 0.
        readout, scale: those of RecoveryEnergy.
        limit: that of RecoveryLikelihood.
        optimizer, ema_decay, options: those of GenerativeModule.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable,
        chain: TiltedLangevin,
        levels: Count = 6,
        beta_min: Positive = 0.1,
        beta_max: Positive = 20.0,
        readout: Literal["product", "reconstruction", "norm", "scalar"] = "norm",
        scale: Positive = 1.0,
        limit: Positive | None = 1000.0,
        ema_decay: Rate | None = 0.9999,
        **options: Any,
    ) -> None:
        model = RecoveryEnergy(net, few_steps(levels, beta_min, beta_max), readout, scale)
        loss = RecoveryLikelihood(chain, limit)
        super().__init__(model=model, loss=loss, optimizer=optimizer, ema_decay=ema_decay, **options)


def few_steps(levels: int, beta_min: float, beta_max: float) -> DiscreteVP:
    """The chain of `levels` steps with the alpha of a VP at t = 1 / T, 2 / T, ..., 1."""
    log_alpha = VP(beta_min, beta_max).log_alpha(torch.arange(levels + 1, dtype=torch.float64) / levels)
    return DiscreteVP((-torch.expm1(2 * log_alpha.diff())).tolist())

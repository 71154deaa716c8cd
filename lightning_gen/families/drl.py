"""Diffusion recovery likelihood: a VP process of few steps, and an energy for each of its levels."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from lightning_gen.families.chains import Chains
from lightning_gen.losses import RecoveryLikelihood
from lightning_gen.models import RecoveryEnergy
from lightning_gen.options import Count, OpenUnitInterval, Positive, Rate
from lightning_gen.process import VP, DiscreteVP
from lightning_gen.samplers import TiltedLangevin


class DRL(Chains):
    """Energies E(y, k) of the noised data at T levels, trained by the conditionals of each level given the next.

    Learning energy-based models by diffusion recovery likelihood (Gao et al., 2021), https://arxiv.org/abs/2012.08125

    Args:
        net: the network f(y, t), like y, or (B,) for the readout scalar.
        chain: Langevin on the conditional, in training.
        noise_levels: T, >= 1, at equal times of a VP in continuous time; the paper's 6.
        sigma_0: standard deviation of the noise that level 0 has, in (0, 1): the energies' finest structure; the
            paper's 0.01.
        beta_min: beta at t = 0 of the VP, > 0.
        beta_max: beta at t = 1 of the VP, > 0.
        readout: that of RecoveryEnergy.
        limit: that of RecoveryLikelihood.
        optimizer, ema_decay, options: those of GenerativeModule.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable,
        chain: TiltedLangevin,
        noise_levels: Count = 6,
        sigma_0: OpenUnitInterval = 0.1,
        beta_min: Positive = 0.1,
        beta_max: Positive = 8.0,
        readout: Literal["product", "reconstruction", "norm", "scalar"] = "reconstruction",
        limit: Positive | None = 1000.0,
        ema_decay: Rate | None = 0.9999,
        **options: Any,
    ) -> None:
        model = RecoveryEnergy(net, few_steps(noise_levels, sigma_0, beta_min, beta_max), readout)
        loss = RecoveryLikelihood(chain, limit)
        super().__init__(model=model, loss=loss, optimizer=optimizer, ema_decay=ema_decay, **options)

    @torch.no_grad()
    def check_data(self, data: Any) -> None:
        """ValueError for a readout that the network's output does not fit."""
        super().check_data(data)
        one = torch.zeros(1, *self.shape, device=self.device)
        self.model.weighted(one, torch.zeros(1, dtype=torch.long, device=self.device))


def few_steps(levels: int, sigma_0: float, beta_min: float, beta_max: float) -> DiscreteVP:
    """The chain of a step to noise sigma_0, then of a VP's T = `levels` steps from t = 0 to 1, equal in t."""
    log_alpha = VP(beta_min, beta_max).log_alpha(torch.arange(levels + 1, dtype=torch.float64) / levels)
    return DiscreteVP([sigma_0**2, *(-torch.expm1(2 * log_alpha.diff())).tolist()])

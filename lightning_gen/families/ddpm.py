"""DDPM: a discrete variance-preserving process, a denoiser, and L_simple."""

from collections.abc import Callable
from typing import Any, Literal

from torch import nn

from lightning_gen.families.base import GenerativeModule
from lightning_gen.losses import DenoisingScoreMatching, levels
from lightning_gen.models import Denoiser
from lightning_gen.options import Count, Positive, Rate
from lightning_gen.process import DiscreteVP, cosine_betas, linear_betas


class DDPM(GenerativeModule):
    """x_t = alpha_t x_0 + sigma_t noise at t = k / T; the network predicts the noise by the mean squared error.

    Denoising diffusion probabilistic models (Ho et al., 2020), https://arxiv.org/abs/2006.11239

    Args:
        net: the network, (x, t) -> the parametrization's target, like x.
        steps: T, >= 1.
        schedule: of beta: linear, or cosine (Nichol & Dhariwal, 2021).
        beta_min: beta at k = 1 of the linear schedule, > 0.
        beta_max: beta at k = T of the linear schedule, > 0.
        parametrization: what the network predicts.
        weight: of the squared error of the noise.
        optimizer, ema_decay, options: those of GenerativeModule.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable,
        steps: Count = 1000,
        schedule: Literal["linear", "cosine"] = "linear",
        beta_min: Positive = 1e-4,
        beta_max: Positive = 0.02,
        parametrization: Literal["noise", "clean", "velocity", "edm"] = "noise",
        weight: Literal["simple", "clean", "velocity", "score", "vlb"] = "simple",
        ema_decay: Rate | None = 0.9999,
        **options: Any,
    ) -> None:
        betas = linear_betas(steps, beta_min, beta_max) if schedule == "linear" else cosine_betas(steps)
        super().__init__(
            model=Denoiser(net, DiscreteVP(betas), parametrization),
            loss=DenoisingScoreMatching(levels(steps), weight, "mean"),
            optimizer=optimizer,
            ema_decay=ema_decay,
            **options,
        )

"""DDPM as a recipe: the discrete variance-preserving chain, a denoiser, and L_simple."""

from collections.abc import Callable, Sequence
from typing import Literal

from torch import nn

from lightning_gen.families.base import GenerativeModule
from lightning_gen.losses import denoising, levels
from lightning_gen.models import Denoiser
from lightning_gen.process import DiscreteVP, cosine_betas, linear_betas
from lightning_gen.samplers import Sampler


class DDPM(GenerativeModule):
    """x_t = alpha_t x_0 + sigma_t noise on T levels; the network learns E[noise | x_t] by the mean squared error.

    Denoising diffusion probabilistic models (Ho et al., 2020), https://arxiv.org/abs/2006.11239
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable,
        steps: int = 1000,
        schedule: Literal["linear", "cosine"] = "linear",
        beta_min: float = 1e-4,
        beta_max: float = 0.02,
        parametrization: Literal["noise", "clean", "velocity", "edm"] = "noise",
        weight: Literal["simple", "clean", "velocity", "score"] = "simple",
        scheduler: Callable | None = None,
        ema_decay: float | None = 0.9999,
        ema_warmup: bool = False,
        sampler: Sampler | None = None,
        shape: Sequence[int] | None = None,
        value_range: Sequence[float] | None = None,
        seed: int = 0,
        compile: bool = False,
        channels_last: bool = False,
    ) -> None:
        if schedule not in ("linear", "cosine"):
            raise ValueError(f"module.schedule is {schedule}: choose linear or cosine")
        if steps < 1:
            raise ValueError(f"module.steps is {steps}: give at least 1")
        betas = linear_betas(steps, beta_min, beta_max) if schedule == "linear" else cosine_betas(steps)
        super().__init__(
            model=Denoiser(net, DiscreteVP(betas), parametrization),
            loss=denoising(levels(steps), weight, "mean"),
            optimizer=optimizer,
            scheduler=scheduler,
            ema_decay=ema_decay,
            ema_warmup=ema_warmup,
            sampler=sampler,
            shape=shape,
            value_range=value_range,
            seed=seed,
            compile=compile,
            channels_last=channels_last,
        )

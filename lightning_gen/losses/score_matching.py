"""Denoising score matching. A loss maps (model, x, generator) to one value per sample, (B,)."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from lightning_gen.losses.times import Times
from lightning_gen.models import ScoreModel
from lightning_gen.process import Process

Loss = Callable[[ScoreModel, Tensor, torch.Generator], Tensor]
Weight = Callable[[Process, Tensor], Tensor]


def simple(process: Process, t: Tensor) -> Tensor:
    """1: the error of the noise itself. DDPM's L_simple (Ho et al., 2020, eq. 14); NCSN's lambda = sigma^2."""
    return torch.ones_like(t)


def clean(process: Process, t: Tensor) -> Tensor:
    """sigma^2 / alpha^2: the error of x_0, since alpha x_0 = x_t - sigma noise."""
    return 1 / process.snr(t)


def velocity(process: Process, t: Tensor) -> Tensor:
    """((alpha^2 + sigma^2) / alpha)^2: the error of v = alpha noise - sigma x_0."""
    alpha = process.alpha(t)
    return ((alpha.square() + process.variance(t)) / alpha).square()


def score(process: Process, t: Tensor) -> Tensor:
    """1 / sigma^2: the error of the score. Vincent (2011), https://doi.org/10.1162/NECO_a_00142"""
    return 1 / process.variance(t)


WEIGHTS: dict[str, Weight] = {"simple": simple, "clean": clean, "velocity": velocity, "score": score}


def denoising(
    times: Times,
    weight: Literal["simple", "clean", "velocity", "score"] | Weight = "simple",
    reduction: Literal["mean", "sum"] = "mean",
) -> Loss:
    """w(t) ||E[noise | x_t] - noise||^2 at random times: every denoising loss, since sigma^2 ||s + noise / sigma||^2
    is the squared error of the noise. reduction `mean` over dimensions without 1/2 (DDPM), `sum` with 1/2 (NCSN).

    Denoising score matching (Vincent, 2011), https://doi.org/10.1162/NECO_a_00142
    """
    if isinstance(weight, str) and weight not in WEIGHTS:
        raise ValueError(f"denoising needs weight in {', '.join(WEIGHTS)}, got {weight}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"denoising needs reduction mean or sum, got {reduction}")
    weigh = WEIGHTS.get(weight, weight)

    def loss(model: ScoreModel, x: Tensor, generator: torch.Generator) -> Tensor:
        t = times(len(x), generator)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        error = (model.noise(model.process.perturb(x, t, noise), t) - noise).square().flatten(1)
        error = error.mean(1) if reduction == "mean" else error.sum(1) / 2
        return weigh(model.process, t).to(error.dtype) * error

    return loss

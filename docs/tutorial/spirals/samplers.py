"""A sampler: what it needs of the model, the plan of its transitions, and one step."""

from typing import Any

import torch
from torch import Tensor

from lightning_gen.models import Scored
from lightning_gen.options import Count
from lightning_gen.process import instant
from lightning_gen.samplers import Stepwise, Transition
from lightning_gen.samplers.base import noise_like


class Restart(Stepwise):
    """x_s = alpha_s E[x_0 | x_t] + sigma_s z: denoised, and noised again, at times that fall evenly from 1 to 0.

    The multistep sampler of consistency models (Song et al., 2023), https://arxiv.org/abs/2303.01469; with a denoiser
    in the place of a consistency model the samples are too narrow, which `lightning-gen check` says.

    Args:
        steps: denoising steps.
    """

    needs = (Scored,)
    supports = ("real",)

    def __init__(self, steps: Count = 10) -> None:
        self.steps = steps

    def plan(self, model: Scored, shape: tuple[int, ...]) -> list[Transition]:
        """t, s and (alpha_s, sigma_s) for each step; the last ends at clean data."""
        times = torch.linspace(1, 0, self.steps + 1, dtype=torch.float64)
        rows = zip(model.process.alpha(times).tolist(), model.process.sigma(times).tolist(), strict=True)
        coefficients = [*list(rows)[1:-1], (1.0, 0.0)]
        return [
            Transition(t, s, row)
            for t, s, row in zip(times[:-1].tolist(), times[1:].tolist(), coefficients, strict=True)
        ]

    def step(self, model: Scored, x: Tensor, transition: Transition, carry: Any, generator: Any) -> tuple[Tensor, None]:
        """x at t -> x at s, (B, ...)."""
        alpha, sigma = transition.coefficients
        clean = model.denoise(x, instant(transition.t, x))
        return (alpha * clean + sigma * noise_like(x, generator) if sigma else clean), None

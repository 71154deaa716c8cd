"""Ancestral sampling of latent-variable models."""

from typing import Any

import torch
from torch import Tensor

from lightning_gen.models import LatentVariables
from lightning_gen.options import Count
from lightning_gen.randomness import Source
from lightning_gen.samplers.base import Stepwise, Transition


class Latent(Stepwise):
    """z ~ N(0, I), then x ~ p(x|z).

    Auto-encoding variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114

    Args:
        steps: points of the trajectory, >= 1: before x come E[x | k z / (steps - 1)], k = 0, 1, ...; x is the same.
        mean: whether to return E[x|z], as pictures of VAEs do, in place of a sample of x.
    """

    needs = (LatentVariables,)

    def __init__(self, steps: Count = 1, mean: bool = False) -> None:
        self.steps, self.mean = steps, mean

    def plan(self, model: LatentVariables, shape: tuple[int, ...]) -> list[Transition]:
        """Transitions with coefficients (factor of z, whether x is drawn)."""
        factors = [k / (self.steps - 1) for k in range(self.steps - 1)]
        means = [Transition(0.0, 0.0, (factor, 0.0)) for factor in factors]
        return [*means, Transition(0.0, 0.0, (1.0, float(not self.mean)))]

    def start(self, model: LatentVariables, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Zeros, (B, ...): z is drawn in the first step."""
        return torch.zeros(shape, device=None if generator is None else generator.device)

    def step(
        self, model: LatentVariables, x: Tensor, transition: Transition, carry: Any, generator: Source
    ) -> tuple[Tensor, Tensor]:
        """x given z or E[x | factor z], (B, ...), and z, (B, latent), drawn in the first step."""
        factor, drawn = transition.coefficients
        z = carry
        if z is None:
            z = torch.randn(len(x), model.latent, generator=generator, device=x.device, dtype=x.dtype)
        return model.sample_visible(z, generator) if drawn else model.visible(factor * z), z

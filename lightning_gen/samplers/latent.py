"""Ancestral sampling of latent-variable models."""

from typing import Any

import torch
from torch import Tensor

from lightning_gen.models import LatentVariables
from lightning_gen.options import Count
from lightning_gen.randomness import Source
from lightning_gen.samplers.base import Stepwise, Transition


class Latent(Stepwise):
    """z ~ N(0, I), then x ~ p(x|z); with `mean` E[x|z] in its place: what pictures of VAEs show, no sample of them.

    `steps` above 1 show the way on which z comes: E[x|k z / (steps - 1)], k = 0, 1, ...; the samples stay the same.
    Auto-encoding variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114
    """

    needs = (LatentVariables,)

    def __init__(self, steps: Count = 1, mean: bool = False) -> None:
        self.steps, self.mean = steps, mean

    def plan(self, model: LatentVariables, shape: tuple[int, ...]) -> list[Transition]:
        """By coefficients: the share of z, and whether x is drawn."""
        shares = [k / (self.steps - 1) for k in range(self.steps - 1)]
        way = [Transition(0.0, 0.0, (share, 0.0)) for share in shares]
        return [*way, Transition(0.0, 0.0, (1.0, float(not self.mean)))]

    def start(self, model: LatentVariables, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Zeros, (B, ...): nothing is drawn yet."""
        return torch.zeros(shape, device=None if generator is None else generator.device)

    def step(
        self, model: LatentVariables, x: Tensor, transition: Transition, carry: Any, generator: Source
    ) -> tuple[Tensor, Tensor]:
        """x of a share of z, (B, ...), and z, (B, latent), drawn at the first step."""
        share, drawn = transition.coefficients
        z = carry
        if z is None:
            z = torch.randn(len(x), model.latent, generator=generator, device=x.device, dtype=x.dtype)
        return model.sample_visible(z, generator) if drawn else model.visible(share * z), z

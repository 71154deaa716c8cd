"""Exact sampling of normalised densities."""

from typing import Any

import torch
from torch import Tensor

from lightning_gen.models import Normalised
from lightning_gen.randomness import Source
from lightning_gen.samplers.base import Stepwise, Transition


class Exact(Stepwise):
    """x ~ p, by the model's own draw."""

    needs = (Normalised,)

    def plan(self, model: Normalised, shape: tuple[int, ...]) -> list[Transition]:
        """One transition."""
        return [Transition(0.0, 0.0)]

    def start(self, model: Normalised, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Zeros, (B, ...)."""
        return torch.zeros(shape, device=None if generator is None else generator.device)

    def step(
        self, model: Normalised, x: Tensor, transition: Transition, carry: Any, generator: Source
    ) -> tuple[Tensor, None]:
        """A sample, (B, ...), whatever x is."""
        return model.draw(tuple(x.shape), generator).to(x.dtype), None

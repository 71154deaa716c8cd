"""Draws of a model's prior alone, from which chains would start."""

from collections.abc import Generator

from torch import Tensor

from lightning_gen.models import GeneratedEnergy
from lightning_gen.randomness import Source
from lightning_gen.samplers.base import Sampler, Transition


class Prior(Sampler):
    """x = G(z) of an energy with a generator, without a step: the samples by which it is trained."""

    needs = (GeneratedEnergy,)
    supports = ("real",)

    def plan(self, model: GeneratedEnergy, shape: tuple[int, ...]) -> list[Transition]:
        """No transition."""
        return []

    def trajectory(self, model: GeneratedEnergy, x: Tensor, generator: Source = None) -> Generator[Tensor, None, int]:
        """x itself; no evaluation of the energy."""
        self.check(model)
        yield x
        return 0

    def acceptance(self, carry: None) -> None:
        """None: there is no Metropolis test."""
        return None

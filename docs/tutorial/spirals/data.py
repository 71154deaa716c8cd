"""A data set: the splits train, val and test, and the way from rows to model space."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lightning_gen.data.base import GenerativeData
from lightning_gen.data.split import Split
from lightning_gen.options import Count, Natural, NonNegative
from lightning_gen.randomness import generator


class Spiral(GenerativeData):
    """Two spirals r = a / 2 pi, a in [0, 2 pi], one the mirror image of the other.

    Args:
        n: points to train on; val and test have a quarter of it.
        noise: standard deviation about the spiral.
    """

    name = "spiral"
    classes = 2
    _shape = (2,)

    def __init__(self, batch_size: Count = 128, seed: Natural = 0, n: Count = 2048, noise: NonNegative = 0.02) -> None:
        super().__init__(batch_size, seed, value_range=None)
        self.n, self.noise = n, noise

    def load(self) -> Mapping[str, Split]:
        """Draw the splits, each by a generator of its own."""
        return {
            name: self._draw(name, n) for name, n in (("train", self.n), ("val", self.n // 4), ("test", self.n // 4))
        }

    def _draw(self, name: str, n: int) -> Split:
        source = generator(self.seed, "spiral", name)
        label = torch.randint(2, (n,), generator=source)
        angle = 2 * math.pi * torch.rand(n, generator=source)
        radius = (1 - 2 * label) * angle / (2 * math.pi)
        points = radius.unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], dim=1)
        return Split(points + self.noise * torch.randn(n, 2, generator=source), label)

    def encode(self, points: Tensor) -> Tensor:
        """The points themselves."""
        return points

    def decode(self, x: Tensor) -> Tensor:
        """The points themselves."""
        return x

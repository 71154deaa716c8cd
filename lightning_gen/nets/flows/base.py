"""The base of invertible networks: z = f(x) with log |det dz/dx|, and x = f^-1(z)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from lightning_gen.options import Checked


class Invertible(Checked, nn.Module, ABC):
    """A bijection z = f(x) of real x, (B, ...), with the logarithm of its Jacobian's determinant."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z, (B, ...), and log |det dz/dx|, nats, (B,)."""

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """x = f^-1(z), (B, ...)."""


class Composed(Invertible):
    """f = f_n ... f_2 f_1; log determinants add.

    Args:
        layers: f_1 to f_n, in the order from x to z.
    """

    def __init__(self, *layers: Invertible) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z, (B, ...), and log |det dz/dx|, nats, (B,)."""
        total = x.new_zeros(len(x))
        for layer in self.layers:
            x, log_det = layer(x)
            total = total + log_det
        return x, total

    def inverse(self, z: Tensor) -> Tensor:
        """x, (B, ...)."""
        for layer in reversed(self.layers):
            z = layer.inverse(z)
        return z


class FlowNetwork(Invertible):
    """An invertible network from x, (B, *shape), to z, (B, D), D the number of values of x: the network of a flow.

    Each level but the last gives half of its channels to z, and the next transforms the others.
    Density estimation using Real NVP (Dinh et al., 2017), section 3.6, https://arxiv.org/abs/1605.08803

    Args:
        shape: of one x, (D,) or (C, H, W).
        levels: the bijections of the levels, and the shape of x after each.
    """

    kinks: str | None = None  # why log p has no second derivative everywhere; None where it has

    def __init__(self, shape: Sequence[int], levels: Sequence[tuple[Invertible, Sequence[int]]]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.levels = nn.ModuleList(level for level, _ in levels)
        shapes = [tuple(after) for _, after in levels]
        # What a level gives to z, and at the last level all.
        self.parts = [(after[0] - after[0] // 2, *after[1:]) for after in shapes[:-1]] + shapes[-1:]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z, (B, D), and log |det dz/dx|, nats, (B,)."""
        total, z = x.new_zeros(len(x)), []
        for level, part in zip(self.levels, self.parts, strict=True):
            x, log_det = level(x)
            total = total + log_det
            x, given = x.split([x.shape[1] - part[0], part[0]], dim=1)
            z.append(given.flatten(1))
        return torch.cat(z, dim=1), total

    def inverse(self, z: Tensor) -> Tensor:
        """x, (B, *shape)."""
        given = [
            part.unflatten(1, shape)
            for part, shape in zip(z.split([prod(shape) for shape in self.parts], dim=1), self.parts, strict=True)
        ]
        x = given[-1]
        for index in reversed(range(len(self.levels))):
            if index < len(self.levels) - 1:
                x = torch.cat([x, given[index]], dim=1)
            x = self.levels[index].inverse(x)
        return x

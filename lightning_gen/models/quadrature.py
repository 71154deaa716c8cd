"""A density of any function in few dimensions: p(x) = g(x) / Z, with Z by numerical integration over a box."""

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from annotated_types import Ge, MultipleOf
from torch import Tensor, nn

from lightning_gen.models.base import Normalised, declared
from lightning_gen.models.support import Support
from lightning_gen.options import Finite
from lightning_gen.randomness import uniform


def log_absolute(f: Tensor) -> Tensor:
    """log |f|, with |f| at least the least positive number of its kind, so that gradients are finite at f = 0."""
    return f.abs().clamp(min=torch.finfo(f.dtype).tiny).log()


LOG_G: dict[str, Callable[[Tensor], Tensor]] = {
    "square": lambda f: 2 * log_absolute(f),
    "exp": lambda f: f,
    "absolute": log_absolute,
}


class Quadrature(Normalised):
    """p(x) = g(x) / Z in the box [low, high]^d, 0 outside, with g = f^2, exp f or |f| of a network f.

    Z is the integral by the midpoint rule, so that log p has a gradient in the weights of f, and any of them can be
    trained by likelihood. Its cost is cells^d evaluations of f for each batch: in many dimensions that cannot be paid.

    Args:
        net: the network f(x, time), (B,), of x (B, d), without labels.
        g: square, f^2; exp, exp f; or absolute, |f|.
        low, high: ends of the box in each dimension, low < high.
        dimensions: d, 1 or 2.
        cells: of the midpoint rule in each dimension, an even number.
    """

    def __init__(
        self,
        net: nn.Module,
        g: Literal["square", "exp", "absolute"],
        low: Finite,
        high: Finite,
        dimensions: Literal[1, 2] = 1,
        cells: Annotated[int, Ge(2), MultipleOf(2)] = 300,
    ) -> None:
        super().__init__()
        if not low < high:
            raise ValueError(f"low is {low} and high {high}, expected low < high: write a box")
        if (classes := declared(net, "classes")) is not None:
            raise ValueError(f"net.classes is {classes}, expected null, for Z is that of one density: write null")
        self.net, self.g, self.cells, self.support = net, g, cells, Support("interval", low=low, high=high)
        self.dimensions = dimensions
        self.register_buffer("like", torch.zeros(()), persistent=False)  # has the device and the dtype

    def networks(self) -> list[nn.Module]:
        """The one network."""
        return [self.net]

    @property
    def coordinates(self) -> int:
        """d."""
        return self.dimensions

    def midpoints(self, cells: int) -> Tensor:
        """The midpoints of the cells, (cells^d, d)."""
        low, high = self.support.low, self.support.high
        line = low + (high - low) * (torch.arange(cells, device=self.like.device, dtype=self.like.dtype) + 0.5) / cells
        return torch.cartesian_prod(*[line] * self.dimensions).view(-1, self.dimensions)

    def log_g(self, x: Tensor) -> Tensor:
        """log g(x), nats, (B,)."""
        return LOG_G[self.g](self.call(self.net, x, torch.zeros((), device=x.device, dtype=x.dtype)))

    def log_constant(self, cells: int | None = None) -> Tensor:
        """log Z of g, nats, (), by the cells of the constructor or by others."""
        cells = self.cells if cells is None else cells
        width = (self.support.high - self.support.low) / cells
        return self.log_g(self.midpoints(cells)).logsumexp(0) + self.dimensions * math.log(width)

    @torch.no_grad()
    def error(self) -> float:
        """|log Z - log Z by half as many cells in each dimension|, nats: 3 times the error of a smooth g, or more."""
        return float((self.log_constant() - self.log_constant(self.cells // 2)).abs())

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), nats, (B,); -inf outside of the box; ValueError for another number of dimensions."""
        self.check_shape(x.shape[1:])
        log_g = self.log_g(x.clamp(self.support.low, self.support.high))  # f may be defined in the box alone
        return torch.where(self.support.contains(x), log_g, -math.inf) - self.log_constant()

    @torch.no_grad()
    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """x ~ p, `shape` = (B, d), but for a cell's width: a cell by its share of Z, then uniform in it."""
        self.check_shape(shape[1:])
        points, low, high = self.midpoints(self.cells), self.support.low, self.support.high
        chosen = torch.multinomial(self.log_g(points).softmax(0), shape[0], replacement=True, generator=generator)
        u = uniform(points[chosen].shape, generator, points.device, points.dtype)
        x = points[chosen] + (u - 0.5) * (high - low) / self.cells
        return x.clamp(low, high).view(shape)  # rounding may leave the box

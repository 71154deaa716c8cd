"""Dequantisers: noise u in [0, 1) that makes whole numbers real, with its log density."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_gen.nets.flows.layers import Coupling, checkerboard, convolutions
from lightning_gen.nets.layers import image_shape
from lightning_gen.options import Checked, Count, Levels, Shape, ValueRange
from lightning_gen.randomness import Source, noise_like, uniform


class Dequantiser(Checked, nn.Module):
    """y = k(x) + w (u - 1/2), u ~ q(u|x) on [0, 1), k(x) the level that is nearest to x, w the distance of two levels.

    log P(k) >= E log p(y) - log q(y|x), with q(y|x) = q(u|x) / w^D. Of K < 256 levels, 8-bit images as they are stored
    have each within 1/510 of the range.

    Args:
        value_range: lowest and highest level of x.
        levels: K, the number of levels of x, >= 2.
    """

    name: str  # in the protocol of a likelihood

    def __init__(self, value_range: ValueRange, levels: Levels = 256) -> None:
        super().__init__()
        self.low, high = value_range
        self.levels, self.width = levels, (high - self.low) / (levels - 1)

    def nearest(self, x: Tensor) -> Tensor:
        """k(x), like x."""
        return self.low + self.width * ((x - self.low) / self.width).round()

    def check(self, x: Tensor) -> None:
        """ValueError for x with a value that is none of the levels, as 8-bit images store them."""
        k, most = (x - self.low) / self.width, self.levels - 1
        near = 0.1 if self.levels == 256 else 1.01 * most / 510
        if not ((k - k.round()).abs().max() <= near and k.min() >= -near and k.max() <= most + near):
            high = self.low + most * self.width
            raise ValueError(
                f"x has values from {x.min():g} to {x.max():g}, not all of the {self.levels} levels of "
                f"[{self.low:g}, {high:g}], whose probability is asked for: encode it as the data"
            )

    @abstractmethod
    def noise(self, x: Tensor, generator: Source) -> tuple[Tensor, Tensor]:
        """u ~ q(u|x), like x, and log q(u|x), nats, (B,)."""

    def forward(self, x: Tensor, generator: Source) -> tuple[Tensor, Tensor]:
        """y, like x, and log q(u|x), nats, (B,)."""
        x = self.nearest(x)
        u, log_q = self.noise(x, generator)
        return x + self.width * (u - 0.5), log_q


class UniformDequantiser(Dequantiser):
    """u uniform: log q = 0.

    A note on the evaluation of generative models (Theis et al., 2016), https://arxiv.org/abs/1511.01844

    Args:
        value_range, levels: those of Dequantiser.
    """

    name = "uniform"

    def noise(self, x: Tensor, generator: Source) -> tuple[Tensor, Tensor]:
        """u, like x, and 0, (B,)."""
        return uniform(x.shape, generator, x.device, x.dtype), x.new_zeros(len(x))


class VariationalDequantiser(Dequantiser):
    """u = sigmoid(f(e; x)), e ~ N(0, I), f four affine couplings with checkerboard masks that see x.

    Flow++ (Ho et al., 2019), https://arxiv.org/abs/1902.00275. At the start u = sigmoid(e).

    Args:
        value_range, levels: those of Dequantiser.
        shape: (C, H, W).
        channels: of the couplings' convolutions.
    """

    name = "variational"

    def __init__(self, value_range: ValueRange, shape: Shape, channels: Count = 32, levels: Levels = 256) -> None:
        super().__init__(value_range, levels)
        c, h, w = image_shape(self, shape)
        self.layers = nn.ModuleList(
            Coupling(convolutions(2 * c, channels, 2 * c, "silu"), checkerboard(h, w, k % 2)) for k in range(4)
        )

    def noise(self, x: Tensor, generator: Source) -> tuple[Tensor, Tensor]:
        """u, like x, and log q(u|x), nats, (B,)."""
        e = noise_like(x, generator)
        log_q = torch.distributions.Normal(0.0, 1.0).log_prob(e).flatten(1).sum(1)
        level = (x - self.low) / ((self.levels - 1) * self.width) - 0.5  # in [-1/2, 1/2]
        for layer in self.layers:
            e, log_det = layer(e, level)
            log_q = log_q - log_det
        # log du/de = log u + log(1 - u)
        return e.sigmoid(), log_q - (F.logsigmoid(e) + F.logsigmoid(-e)).flatten(1).sum(1)

"""Invertible layers: couplings, ActNorm, the invertible 1x1 convolution, squeeze, logit."""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_gen.nets.flows.base import Invertible
from lightning_gen.options import Levels, OpenUnitInterval, ValueRange

LARGEST = 2.0  # of |log scale| of one coupling: a factor of 7.4


def bounded(s: Tensor, largest: float = LARGEST) -> Tensor:
    """Log scales s with |s| < `largest`, like s."""
    return largest * torch.tanh(s / largest)


class Coupling(Invertible):
    """z = m x + (1 - m) (x exp s + t), (s, t) = net(c m x), log det = sum (1 - m) s; additive: s = 0.

    |s| < 2, by tanh. Density estimation using Real NVP (Dinh et al., 2017), eq. 9, https://arxiv.org/abs/1605.08803;
    additive: NICE (Dinh et al., 2015), https://arxiv.org/abs/1410.8516

    Args:
        net: from c m x, (B, C, ...), or from it and a condition side by side, to t, or to s and t, along dimension 1.
        mask: m, 1 for values that stay and condition the others, of the shape of x without the batch, or broadcast.
        additive: whether s = 0.
        scale: c, > 0.
    """

    mask: Tensor

    def __init__(self, net: nn.Module, mask: Tensor, additive: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        self.net, self.additive, self.scale = net, additive, scale
        self.register_buffer("mask", mask, persistent=False)

    def shift(self, kept: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """s and t, like x, zero where m = 1; they depend on `kept` = m x and the condition alone."""
        kept = self.scale * kept
        out = self.net(kept if condition is None else torch.cat([kept, condition], dim=1))
        changed = 1 - self.mask
        if self.additive:
            return torch.zeros_like(kept), changed * out
        s, t = out.chunk(2, dim=1)
        return changed * bounded(s), changed * t

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z, like x, and log |det dz/dx|, nats, (B,)."""
        s, t = self.shift(self.mask * x, condition)
        return x * s.exp() + t, s.flatten(1).sum(1)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """x = (z - t) exp(-s), like z."""
        s, t = self.shift(self.mask * z, condition)
        return (z - t) * (-s).exp()


class FromFirstHalf(nn.Module):
    """A coupling's network for the mask `halves(channels, 0)` that computes what the mask leaves, and zeros beside it.

    Args:
        net: from the first channels // 2 channels to t of the others, or to s and t.
        channels: of x, (B, C, ...).
        outputs: 2 for s and t, 1 for t alone.
    """

    def __init__(self, net: nn.Module, channels: int, outputs: int) -> None:
        super().__init__()
        self.net, self.kept, self.outputs = net, channels // 2, outputs

    def forward(self, x: Tensor) -> Tensor:
        """s and t, (B, 2C, ...), or t, (B, C, ...)."""
        kept = x[:, : self.kept]
        zeros, out = torch.zeros_like(kept), self.net(kept)
        return torch.cat([part for chunk in out.chunk(self.outputs, 1) for part in (zeros, chunk)], dim=1)


def channel_coupling(net: Callable[[int, int], nn.Module], channels: int, additive: bool = False) -> Coupling:
    """A coupling that changes the second half of the channels by the first; net: (inputs, outputs) -> network."""
    kept, outputs = channels // 2, 1 if additive else 2
    made = net(kept, outputs * (channels - kept))
    return Coupling(FromFirstHalf(made, channels, outputs), halves(channels, 0), additive)


def checkerboard(height: int, width: int, parity: int) -> Tensor:
    """m = 1 where row + column + parity is even, (1, H, W)."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return ((rows + columns + parity) % 2 == 0).float().unsqueeze(0)


def halves(channels: int, parity: int) -> Tensor:
    """m = 1 for the first half of the channels, or with parity 1 for the second, (C, 1, 1)."""
    first = (torch.arange(channels) < channels // 2).float()
    return (first if parity == 0 else 1 - first).view(-1, 1, 1)


def alternating(size: int, parity: int) -> Tensor:
    """m = 1 where index + parity is even, (D,)."""
    return ((torch.arange(size) + parity) % 2 == 0).float()


class ActNorm(Invertible):
    """z = (x + b) exp s, one b and s a channel, log det = H W sum s; `fit` gives z mean 0 and variance 1.

    Glow (Kingma & Dhariwal, 2018), section 3.1, https://arxiv.org/abs/1807.03039

    Args:
        channels: of x, (B, C, ...).
        shift: whether to learn b.
    """

    def __init__(self, channels: int, shift: bool = True) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels), requires_grad=shift)
        self.log_scale = nn.Parameter(torch.zeros(channels))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set b and s by a batch: of z, each channel then has mean 0 and variance 1."""
        rows = x.transpose(0, 1).flatten(1)
        std, mean = torch.std_mean(rows, dim=1, correction=0)
        if not (std > 0).all():
            raise ValueError(
                f"channel {int((std <= 0).nonzero()[0])} of a batch of {len(x)} is constant, expected values that "
                "differ: a flow needs data without constant channels, or module.dequantisation uniform"
            )
        self.bias.copy_(-mean)
        self.log_scale.copy_(-std.log())

    def columns(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """b and s, broadcast over x."""
        shape = (-1, *[1] * (x.ndim - 2))
        return self.bias.view(shape), self.log_scale.view(shape)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z, like x, and log |det dz/dx|, nats, (B,)."""
        bias, log_scale = self.columns(x)
        positions = math.prod(x.shape[2:])  # H W
        return (x + bias) * log_scale.exp(), (positions * self.log_scale.sum()).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """x, like z."""
        bias, log_scale = self.columns(z)
        return z * (-log_scale).exp() - bias


class InvertibleConv(Invertible):
    """z = W x at each position, W = P L (U + diag(sign exp s)), log det = H W sum s.

    L is unit lower and U strictly upper triangular; P and the signs stay as those of a random rotation, the start.
    Glow (Kingma & Dhariwal, 2018), section 3.2, https://arxiv.org/abs/1807.03039

    Args:
        channels: of x, (B, C, H, W).
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64)).Q
        permutation, lower, upper = torch.linalg.lu(rotation)
        self.register_buffer("permutation", permutation.float())
        self.register_buffer("sign", upper.diagonal().sign().float())
        self.lower = nn.Parameter(lower.tril(-1).float())
        self.upper = nn.Parameter(upper.triu(1).float())
        self.log_scale = nn.Parameter(upper.diagonal().abs().log().float())

    def factors(self) -> tuple[Tensor, Tensor]:
        """L and U with its diagonal, (C, C) each."""
        one = torch.eye(len(self.sign), dtype=self.lower.dtype, device=self.lower.device)
        return self.lower.tril(-1) + one, self.upper.triu(1) + torch.diag(self.sign * self.log_scale.exp())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z, like x, and log |det dz/dx|, nats, (B,)."""
        lower, upper = self.factors()
        weight = self.permutation @ lower @ upper
        positions = x.shape[2] * x.shape[3]
        return F.conv2d(x, weight[:, :, None, None]), (positions * self.log_scale.sum()).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """x = U^-1 L^-1 P^T z, like z, by two triangular systems."""
        lower, upper = self.factors()
        columns = self.permutation.T @ z.transpose(0, 1).flatten(1)  # (C, B H W)
        columns = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        columns = torch.linalg.solve_triangular(upper, columns, upper=True)
        return columns.unflatten(1, (len(z), *z.shape[2:])).transpose(0, 1)


class Squeeze(Invertible):
    """(C, H, W) to (4C, H/2, W/2): each 2x2 block becomes four channels; log det = 0.

    Density estimation using Real NVP (Dinh et al., 2017), section 3.6, https://arxiv.org/abs/1605.08803
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z, (B, 4C, H/2, W/2), and 0, (B,)."""
        return F.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """x, (B, C/4, 2H, 2W)."""
        return F.pixel_shuffle(z, 2)


class Logit(Invertible):
    """z = log(p / (1 - p)), p = a + (1 - 2a) u, u in [0, 1] linear in x between the outer edges of K bins.

    log |dz/dx| = log((1 - 2a) / (p (1 - p))) + log |du/dx|, summed over the values. Where p is not in (0, 1), outside
    of the flow's support, the log determinant is -inf.
    Density estimation using Real NVP (Dinh et al., 2017), section 4.1, https://arxiv.org/abs/1605.08803

    Args:
        value_range: lowest and highest level of x.
        margin: a, in (0, 1/2); .05 for images.
        levels: K, the number of levels of x, >= 2.
    """

    def __init__(self, value_range: ValueRange, margin: OpenUnitInterval = 0.05, levels: Levels = 256) -> None:
        super().__init__()
        if margin >= 0.5:
            raise ValueError(f"module.logit is {margin}, expected below 0.5: write 0.05")
        low, high = value_range
        width = (high - low) / (levels - 1)
        self.low, self.slope, self.margin = low - width / 2, (1 - 2 * margin) / (levels * width), margin

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z, like x, and log |det dz/dx|, nats, (B,)."""
        p = self.margin + self.slope * (x - self.low)
        inside = (p > 0) & (p < 1)
        p = p.where(inside, 0.5)
        log_slopes = math.log(self.slope) - p.log() - torch.log1p(-p)
        return p.logit(), log_slopes.where(inside, -math.inf).flatten(1).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """x, like z."""
        return self.low + (z.sigmoid() - self.margin) / self.slope


Activation = Literal["silu", "tanh", "relu"]
ACTIVATIONS = {"silu": nn.SiLU, "tanh": nn.Tanh, "relu": nn.ReLU}


def kinks_of(activation: Activation) -> str | None:
    """Why log p has no second derivative everywhere with an activation; None where it has."""
    return "relu has a derivative that jumps at 0: set net.activation to silu" if activation == "relu" else None


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with weights and bias 0, so that the coupling is the identity at the start."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def perceptron(inputs: int, width: int, depth: int, outputs: int, activation: Activation) -> nn.Sequential:
    """`depth` layers of `width` units, and a linear one with zeros."""
    layers: list[nn.Module] = []
    for size in [inputs, *[width] * (depth - 1)]:
        layers += [nn.Linear(size, width), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, zeroed(nn.Linear(width, outputs)))


def convolutions(inputs: int, width: int, outputs: int, activation: Activation) -> nn.Sequential:
    """Convolutions 3x3, 1x1 and 3x3, `width` channels between, the last with zeros: Glow's."""
    act = ACTIVATIONS[activation]
    first, second = nn.Conv2d(inputs, width, 3, padding=1), nn.Conv2d(width, width, 1)
    return nn.Sequential(first, act(), second, act(), zeroed(nn.Conv2d(width, outputs, 3, padding=1)))

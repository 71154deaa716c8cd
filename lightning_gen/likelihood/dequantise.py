"""Uniform dequantisation of 8-bit data, and bits per dimension of the discrete data."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

# centred: about the levels, of width (high - low) / 255, so that the outer two reach half a bin beyond [low, high].
# within: 256 that fill [low, high], level k's from k / 256 on; Song et al.'s code dequantises so, by (k + u) / 256,
# what was trained on as k / 255. Either bounds the same discrete data.
Bins = Literal["centred", "within"]


def bin_width(value_range: Sequence[float], levels: int = 256, bins: Bins = "centred") -> float:
    """(high - low) / 255, the distance of neighbouring levels from low to high; of bins within, (high - low) / 256."""
    low, high = value_range
    return (high - low) / (levels - 1 if bins == "centred" else levels)


def bins_protocol(value_range: Sequence[float], levels: int = 256, bins: Bins = "centred") -> dict[str, Any]:
    """What the protocol of bits/dim of so many levels says: their number, and the bin width as 2/255."""
    low, high = value_range
    return {"levels": levels, "bin_width": f"{high - low:g}/{levels - 1 if bins == 'centred' else levels}"}


def dequantised(
    x: Tensor, value_range: Sequence[float], generator: torch.Generator, levels: int = 256, bins: Bins = "centred"
) -> Tensor:
    """x + w (u - 1/2), u uniform on [0, 1), w the bin width, like x: dequantised data in model space.

    Of bins within, low + w (k + u) for level k = 0..255.
    A note on the evaluation of generative models (Theis et al., 2016), https://arxiv.org/abs/1511.01844
    """
    u = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    w = bin_width(value_range, levels, bins)
    if bins == "centred":
        return x + w * (u - 0.5)
    low = value_range[0]
    return low + (x - low) * ((levels - 1) / levels) + w * u


def bits_per_dim(
    nats: Tensor, d: int, value_range: Sequence[float], levels: int = 256, bins: Bins = "centred"
) -> Tensor:
    """-(log p(x) + d log w) / (d log 2), w the bin width, like nats = log p(x) of dequantised x in d dimensions.

    Its mean over u is at least -log2 P(k) / d for 8-bit data k, P(k) the integral of p over the bin (Jensen).
    """
    return -(nats / d + math.log(bin_width(value_range, levels, bins))) / math.log(2)

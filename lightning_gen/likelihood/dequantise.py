"""Uniform dequantisation of 8-bit data, and bits per dimension of the discrete data."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def bin_width(value_range: Sequence[float], levels: int = 256) -> float:
    """(high - low) / 255, the distance of neighbouring levels from low to high; bins are centred on the levels."""
    low, high = value_range
    return (high - low) / (levels - 1)


def dequantised(x: Tensor, value_range: Sequence[float], generator: torch.Generator, levels: int = 256) -> Tensor:
    """x + w (u - 1/2), u uniform on [0, 1), w the bin width, like x: dequantised data in model space.

    A note on the evaluation of generative models (Theis et al., 2016), https://arxiv.org/abs/1511.01844
    """
    u = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return x + bin_width(value_range, levels) * (u - 0.5)


def bits_per_dim(nats: Tensor, d: int, value_range: Sequence[float], levels: int = 256) -> Tensor:
    """-(log p(x) + d log w) / (d log 2), w the bin width, like nats = log p(x) of dequantised x in d dimensions.

    Its mean over u is at least -log2 P(k) / d for 8-bit data k, P(k) the integral of p over the bin (Jensen).
    """
    return -(nats / d + math.log(bin_width(value_range, levels))) / math.log(2)

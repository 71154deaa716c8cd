"""Parts of a discrete process: its variances beta_1..beta_T, and what lies between the points of its grid."""

import math

import torch
from torch import Tensor

from lightning_gen.options import Count, NonNegative, OpenUnitInterval, checked


@checked
def linear_betas(
    steps: Count = 1000, beta_min: OpenUnitInterval = 1e-4, beta_max: OpenUnitInterval = 0.02
) -> list[float]:
    """beta_1..beta_T, linear from beta_min to beta_max.

    DDPM (Ho et al., 2020, section 4), https://arxiv.org/abs/2006.11239
    """
    return torch.linspace(beta_min, beta_max, steps, dtype=torch.float64).tolist()


@checked
def cosine_betas(steps: Count = 1000, offset: NonNegative = 0.008, largest: OpenUnitInterval = 0.999) -> list[float]:
    """beta_1..beta_T of alpha^2 = cos^2((t + offset) / (1 + offset) pi / 2), at most `largest`.

    Improved DDPM (Nichol & Dhariwal, 2021, eq. 17), https://arxiv.org/abs/2102.09672
    """

    def alpha_squared(k: int) -> float:
        return math.cos((k / steps + offset) / (1 + offset) * math.pi / 2) ** 2

    return [min(1 - alpha_squared(k) / alpha_squared(k - 1), largest) for k in range(1, steps + 1)]


def interpolate(table: Tensor, position: Tensor) -> Tensor:
    """The table (T + 1,), linear between its entries, at positions in [0, T], the shape of position."""
    left = (position * (1 + 4 * torch.finfo(position.dtype).eps)).floor()  # T (k / T) may be < k
    left = left.clamp(0.0, len(table) - 2.0)
    k = left.long()
    return torch.lerp(table.take(k), table[1:].take(k), position - left)


def position_of(value: Tensor, table: Tensor) -> Tensor:
    """Positions in [0, T] at which the falling table (T + 1,), linear between its entries, has these values."""
    left = (torch.searchsorted(-table, -value) - 1).clamp(0, len(table) - 2)
    return left + ((value - table[left]) / (table[left + 1] - table[left])).clamp(0, 1)

"""What the tests hold our numbers against: torchmetrics on features as they are, and torch-fidelity's functions."""

import torch
from torch import Tensor, nn


class AsTheyAre(nn.Module):
    """The feature network of a torchmetrics metric that is fed features."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_features = dim

    def forward(self, x: Tensor) -> Tensor:
        """x."""
        return x


def cloud(n: int, d: int, seed: int, scale: float = 1.0, offset: float = 0.0) -> Tensor:
    """n correlated float64 samples in d dimensions."""
    draw = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=draw, dtype=torch.float64) / d**0.5
    return scale * torch.randn(n, d, generator=draw, dtype=torch.float64) @ mix + offset

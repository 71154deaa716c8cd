"""Distances between all pairs of two sets of features, a block of rows at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_gen.errors import NonFinite

ENTRIES = 2**22  # of a block: 32 MiB in float64
TIE = 1e-12  # of the largest |x|^2: what rounding may put between two equal distances


def squared_distances(x: Tensor, y: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Of each block of rows of x (n, d): its first index and |x_i - y_j|^2, (B, m), float64, >= 0."""
    centre = y.double().mean(0)
    y = y.double() - centre
    norms = y.square().sum(1)
    size = max(1, ENTRIES // len(y))
    for start in range(0, len(x), size):
        part = x[start : start + size].double() - centre
        squares = torch.addmm(norms.expand(len(part), -1), part, y.mT, alpha=-2).add_(
            part.square().sum(1, keepdim=True)
        )
        yield start, squares.clamp_min_(0)


def tie(x: Tensor, y: Tensor) -> float:
    """Squared distances that differ by less are equal."""
    centre = y.double().mean(0)
    return TIE * max(float((z.double() - centre).square().sum(1).max()) for z in (x, y))


def nearest(x: Tensor, y: Tensor, k: int = 1, same: bool = False) -> tuple[Tensor, Tensor]:
    """Squared distances and indices, (n, k), of the k nearest of y, nearest first; `same`: y is x, itself left out."""
    squares, indices = [], []
    for start, block in squared_distances(x, y):
        if same:
            block.diagonal(start).fill_(torch.inf)
        values, index = block.topk(k, dim=1, largest=False)
        squares.append(values)
        indices.append(index)
    return torch.cat(squares), torch.cat(indices)


def check_features(least: int, what: str, **sets: Tensor) -> None:
    """Refuse sets of features that are too small or hold NaN."""
    for name, features in sets.items():
        if len(features) < least:
            raise ValueError(f"{what} needs {least} images or more in {name}, got {len(features)}: give more")
        if not all(torch.isfinite(part).all() for part in features.split(4096)):
            raise NonFinite(f"features {name} are not finite: {what} would be meaningless")

"""The sliced Wasserstein distance: features compared along lines, whatever their law is."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_gen.metrics.distances import check_features
from lightning_gen.metrics.evaluation import Evaluation
from lightning_gen.metrics.registry import Measured, metric
from lightning_gen.options import Count, checked

DIRECTIONS = 500
BLOCK = 50  # directions at once


class SlicedWasserstein(NamedTuple):
    """The squared distance, in squared units of the features, its standard error, and the number of directions."""

    value: float
    error: float
    directions: int


@checked
def sliced_wasserstein(
    x: Tensor, y: Tensor, generator: torch.Generator, directions: Count = DIRECTIONS
) -> SlicedWasserstein:
    """SW^2 of features x (N, d) and y (M, d), float64: the mean over directions u of W_2^2 of u.x and u.y.

    On a line W_2^2 is the integral of the squared difference of the quantiles; of laws moved apart by a vector m the
    mean is |m|^2 / d. The cost is N d + N log N for each direction.
    The error joins that of the directions with that of x by the delta method: the standard deviation of the transport's
    potential over root N. It knows nothing of the bias, and is too small where the laws are equal.
    Sliced and Radon Wasserstein barycenters of measures (Bonneel et al., 2015),
    https://doi.org/10.1007/s10851-014-0506-3
    """
    check_features(2, "the sliced Wasserstein distance", x=x, y=y)
    x, y = x.detach().double(), y.detach().double()
    u = torch.randn(x.shape[1], directions, generator=generator, device=generator.device, dtype=torch.float64)
    u = (u / u.norm(dim=0)).to(x.device)
    i, j, weight = coupling(len(x), len(y), x.device)
    values, potential = [], torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for part in u.split(BLOCK, 1):
        a, order = (x @ part).sort(0)
        b = (y @ part).sort(0).values[j]
        values.append((weight[:, None] * (a[i] - b).square()).sum(0))
        away = a - len(x) * torch.zeros_like(a).index_add_(0, i, weight[:, None] * b)
        rise = (a.diff(dim=0) * (away[1:] + away[:-1])).cumsum(0)
        potential += torch.zeros_like(a).scatter_(0, order[1:], rise).sum(1)
    value = torch.cat(values)
    variance = (potential / directions).var() / len(x) + value.var(correction=0) / directions
    return SlicedWasserstein(float(value.mean()), float(variance.sqrt()), directions)


def coupling(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Which of n and of m sorted values lie at the same levels, and the width of the levels: (k,) each, sum 1."""
    ends = torch.cat([m * torch.arange(1, n + 1), n * torch.arange(1, m + 1)]).unique()  # of levels, times n m
    widths = ends.diff(prepend=ends.new_zeros(1)).double() / (n * m)
    return tuple(each.to(device) for each in ((ends - 1) // m, (ends - 1) // n, widths))


@metric("sliced_wasserstein", "sliced Wasserstein, squared", "lower", least=2)
def to_reference(evaluation: Evaluation) -> Measured:
    """The squared sliced Wasserstein distance of the samples' features to the reference's."""
    x, real = evaluation.features, evaluation.real.features.to(evaluation.features.device)
    found = sliced_wasserstein(x, real, evaluation.draw("sliced_wasserstein"))
    protocol = {"directions": found.directions, "bias": "upwards at small n", "error_by": "delta method"}
    return Measured(found.value, found.error, (), protocol)

"""Precision, recall, density and coverage: whose neighbourhoods hold whom."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_gen.metrics.distances import check_features, nearest, squared_distances, tie

GROUPS = 20  # of the jackknife


class Manifold(NamedTuple):
    """precision, recall, coverage in [0, 1], density >= 0; `errors` in the same order."""

    precision: float
    recall: float
    density: float
    coverage: float
    errors: tuple[float, float, float, float]


def manifold(samples: Tensor, real: Tensor, k: int = 3, k_density: int = 5, groups: int = GROUPS) -> Manifold:
    """Features of samples (M, d) against real (N, d); a ball reaches to its centre's k-th neighbour of its own set.

    precision: share of the samples that lie in a real image's ball. recall: share of the real images that lie in a
    sample's ball. "Improved precision and recall metric for assessing generative models" (Kynkaanniemi et al., 2019),
    https://arxiv.org/abs/1904.06991
    density: (1 / k M) sum_j #{i: sample j in the ball of real i}, 1 in expectation where both laws are equal.
    coverage: share of the real balls that hold a sample; 1 - prod_(i=1..k) (N - i) / (M + N - i) in expectation there.
    "Reliable fidelity and diversity metrics for generative models" (Naeem et al., 2020),
    https://arxiv.org/abs/2002.09797

    Balls are closed, so that a copy lies in its original's. All four fall or rise with M and N: compare equal numbers.
    Errors are over draws of the samples, the real images held fixed, by a jackknife that leaves out one of `groups`
    groups of samples: a bootstrap's copies would have neighbours at distance 0. Those of recall and coverage come out
    up to twice too large.
    """
    if min(k, k_density) < 1 or groups < 2:
        raise ValueError(f"manifold needs k >= 1, k_density >= 1 and groups >= 2, got {k}, {k_density} and {groups}")
    check_features(max(k, k_density) + 1, "the manifold of features", samples=samples, real=real)
    m, n, slack = len(samples), len(real), tie(samples, real)
    groups = min(groups, m)
    squares, _ = nearest(real, real, max(k, k_density), same=True)
    ball, wide = squares[:, k - 1] + slack, squares[:, k_density - 1] + slack
    reach = _radii(samples, k, groups) + slack
    group = torch.arange(m, device=samples.device) % groups
    member = torch.nn.functional.one_hot(group, groups).double()
    precise = torch.zeros(m, dtype=torch.bool, device=samples.device)
    held = torch.zeros(groups, dtype=torch.float64, device=samples.device)
    recalled = torch.zeros(groups + 1, dtype=torch.float64, device=samples.device)
    covered = torch.zeros(groups + 1, dtype=torch.float64, device=samples.device)
    for start, squares in squared_distances(real, samples):  # (B, m)
        rows = slice(start, start + len(squares))
        precise |= (squares <= ball[rows, None]).any(0)
        inside = (squares <= wide[rows, None]).double() @ member  # how many of each group, (B, groups)
        held += inside.sum(0)
        counts = inside.sum(1, keepdim=True)
        covered += (torch.cat([counts, counts - inside], 1) > 0).double().sum(0)
        recalled += torch.stack([(squares <= radius).any(1).sum() for radius in reach]).double()
    sizes, found = member.sum(0), precise.double() @ member
    left = m - sizes  # how many samples there are without a group
    values = [found.sum() / m, recalled[0] / n, held.sum() / (k_density * m), covered[0] / n]
    without = [(found.sum() - found) / left, recalled[1:] / n, (held.sum() - held) / (k_density * left)]
    without.append(covered[1:] / n)
    return Manifold(*map(float, values), tuple(_jackknife(x) for x in without))


def _radii(samples: Tensor, k: int, groups: int) -> Tensor:
    """Squared distances to the k-th neighbour, (groups + 1, M): among all, then without each group, itself at -inf."""
    m = len(samples)
    # Of 8 + 4 k neighbours hardly ever so many belong to one group that no k are left.
    squares, index = nearest(samples, samples, min(m - 1, 8 + 4 * k), same=True)
    rows = [squares[:, k - 1]]
    for group in range(groups):
        kept = (index % groups != group).cumsum(1)
        place = (kept < k).sum(1).clamp_max(squares.shape[1] - 1)
        radius = squares.gather(1, place[:, None])[:, 0]
        radius[group::groups] = -torch.inf
        rows.append(radius)
    return torch.stack(rows)


def _jackknife(without: Tensor) -> float:
    """Standard error from the values without each of the groups."""
    g = len(without)
    return float(((g - 1) / g * (without - without.mean()).square().sum()).sqrt())

"""Precision, recall, density and coverage: whose neighbourhoods hold whom."""

from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from lightning_gen.metrics.distances import check_features, nearest, squared_distances, tie
from lightning_gen.metrics.evaluation import Evaluation, Options
from lightning_gen.metrics.registry import Measured, metric
from lightning_gen.options import Count, checked

HALVES = 20  # of the samples, for the errors


class Manifold(NamedTuple):
    """precision, recall, coverage in [0, 1], density >= 0; `errors` in the same order."""

    precision: float
    recall: float
    density: float
    coverage: float
    errors: tuple[float, float, float, float]


@checked
def manifold(
    samples: Tensor, real: Tensor, k: Count = 3, k_density: Count = 5, halves: Annotated[int, Ge(2)] = HALVES
) -> Manifold:
    """Features of samples (M, d) against real (N, d); a ball reaches to its centre's k-th neighbour of its own set.

    precision: share of the samples that lie in a real image's ball. recall: share of the real images that lie in a
    sample's ball. "Improved precision and recall metric for assessing generative models" (Kynkaanniemi et al., 2019),
    https://arxiv.org/abs/1904.06991
    density: (1 / k M) sum_j #{i: sample j in the ball of real i}, 1 in expectation where both laws are equal.
    coverage: share of the real balls that hold a sample; 1 - prod_(i=1..k) (N - i) / (M + N - i) in expectation there.
    "Reliable fidelity and diversity metrics for generative models" (Naeem et al., 2020),
    https://arxiv.org/abs/2002.09797

    Balls of precision and recall are closed, as in the first paper's code: a copy lies in its original's, also where
    originals coincide. Those of density and coverage are open, as in the second's: a ball holds its centre and k - 1
    neighbours, so that copies of the real images have density 1, and not (k + 1) / k. All four fall or rise with M and
    N: compare equal numbers.
    Errors are over draws of the samples, the real images held fixed, by the jackknife that leaves out half of them, of
    which `halves` are drawn: a bootstrap's copies would have neighbours at distance 0, and leaving out few would make
    recall's error up to twice too large, for a radius is not smooth. Coverage's comes out too large, by up to two where
    nearly all is covered. "A general theory for jackknife variance estimation" (Shao & Wu, 1989), https://doi.org/10.1214/aos/1176347263
    """
    check_features(max(k, k_density) + 1, "the manifold of features", samples=samples, real=real)
    m, n, slack = len(samples), len(real), tie(samples, real)
    squares, _ = nearest(real, real, max(k, k_density), same=True)
    ball, wide = squares[:, k - 1] + slack, squares[:, k_density - 1] - slack
    chosen = _halves(m, halves).to(samples.device)
    reach = _radii(samples, k, chosen) + slack
    member = torch.cat([torch.ones_like(chosen[:1]), chosen]).double().T  # of all samples, then of each half
    precise = torch.zeros(m, dtype=torch.bool, device=samples.device)
    dense, recalled, covered = torch.zeros(3, 1 + halves, dtype=torch.float64, device=samples.device)
    for start, squares in squared_distances(real, samples):  # (B, m)
        rows = slice(start, start + len(squares))
        precise |= (squares <= ball[rows, None]).any(0)
        inside = (squares < wide[rows, None]).double() @ member  # how many, (B, 1 + halves)
        dense += inside.sum(0)
        covered += (inside > 0).double().sum(0)
        recalled += torch.stack([(squares <= radius).any(1).sum() for radius in reach]).double()
    sizes = member.sum(0)
    values = torch.stack([precise.double() @ member / sizes, recalled / n, dense / (k_density * sizes), covered / n])
    size = m // 2
    errors = (size / (m - size)) ** 0.5 * values[:, 1:].std(1)
    return Manifold(*values[:, 0].tolist(), tuple(errors.tolist()))


def _halves(m: int, count: int) -> Tensor:
    """Whether a sample is in each half, m // 2 of m samples, bool (count, m): the same at every call."""
    generator = torch.Generator().manual_seed(0)
    order = torch.stack([torch.randperm(m, generator=generator) for _ in range(count)])
    return order < m // 2


def _radii(samples: Tensor, k: int, chosen: Tensor) -> Tensor:
    """Squared distances to the k-th neighbour, (1 + halves, M): among all, then within each half, outside it -inf."""
    # Of 16 + 6 k neighbours hardly ever fewer than k are in a half.
    squares, index = nearest(samples, samples, min(len(samples) - 1, 16 + 6 * k), same=True)
    rows = [squares[:, k - 1]]
    for half in chosen:
        position = (half[index].cumsum(1) < k).sum(1).clamp_max(squares.shape[1] - 1)
        rows.append(squares.gather(1, position[:, None])[:, 0].where(half, -torch.inf))
    return torch.stack(rows)


def _fewest(options: Options) -> int:
    return max(options.neighbours, options.density_neighbours) + 1


@metric("coverage", "coverage", "higher", _fewest)
@metric("density", "density", "higher", _fewest)
@metric("recall", "recall", "higher", _fewest)
@metric("precision", "precision", "higher", _fewest)
def precision_recall_density_coverage(evaluation: Evaluation) -> dict[str, Measured]:
    """All four, of equal numbers of images."""
    features, real, options = evaluation.features, evaluation.real.features, evaluation.options
    m = min(len(features), len(real), options.at_most)
    choice = torch.randperm(len(real), generator=evaluation.draw("manifold"))[:m]
    k, k_density = options.neighbours, options.density_neighbours
    values = manifold(features[:m], real[choice].to(features.device), k, k_density)
    shared = {"images_each": m, "error_by": f"jackknife, {HALVES} halves"}
    own = {
        "precision": {"bias": "upwards at small n", "neighbours": k, "balls": "closed"},
        "recall": {"bias": "upwards at small n", "neighbours": k, "balls": "closed"},
        "density": {"bias": "none where both laws are equal", "neighbours": k_density, "balls": "open"},
        "coverage": {"bias": "depends on n: compare equal images_each", "neighbours": k_density, "balls": "open"},
    }
    return {
        name: Measured(getattr(values, name), error, (), {**protocol, **shared})
        for (name, protocol), error in zip(own.items(), values.errors, strict=True)
    }

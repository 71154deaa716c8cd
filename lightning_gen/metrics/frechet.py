"""The Frechet distance of two Gaussians (FID), and the float64 moments that it takes."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric

from lightning_gen.errors import NonFinite
from lightning_gen.options import Checked, Count

BLOCK = 256  # columns of a symmetric matrix that are made at once: about half of it is enough
ROWS, COLUMNS = 4096, 512  # samples and columns that are added at once to a covariance's sums
ROUNDING = 1e-9  # of the distance: the most that the quick way may lose


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), squared Wasserstein-2; float64, never negative.

    With A = L L' the last trace is that of the symmetric (L' B L)^(1/2), by Cholesky and eigenvalues. Where that could
    cost digits, at ranks below d or distances near 0, a sum of squares takes its place.
    """
    a, b = _finite(cov_a, "cov_a"), _finite(cov_b, "cov_b")
    shift = float((_finite(mean_a, "mean_a") - _finite(mean_b, "mean_b")).square().sum())
    root, failed = torch.linalg.cholesky_ex(a)
    quick = None if failed else _by_traces(shift, root.mT, float(a.trace()), b)
    if quick is not None:
        return quick
    return _by_squares(shift, _factor(a, "cov_a"), _factor(b, "cov_b"))


def frechet_of_features(features: Tensor, mean: Tensor, cov: Tensor) -> float:
    """The same of features (N, d) and another's moments; N <= d make no matrix of their own.

    |mean - mean_b|^2 + tr(A + B) - 2 |X B^(1/2)|_*.

    X are the centred rows over sqrt(N - 1), A = X'X, and the nuclear norm |.|_* is the sum of the roots of the
    eigenvalues of the N - 1 by N - 1 matrix X B X'.
    """
    if len(features) > features.shape[1]:
        return frechet_distance(*moments(features), mean, cov)
    if len(features) < 2:
        raise ValueError(f"the Frechet distance needs 2 samples or more for a covariance, got {len(features)}")
    x, b = _finite(features, "features"), _finite(cov, "cov")
    shift = float((x.mean(0) - _finite(mean, "mean")).square().sum())
    rows = _contrasts(x) / (len(x) - 1) ** 0.5
    quick = _by_traces(shift, rows, float(rows.square().sum()), b)
    return _by_squares(shift, rows.mT, _factor(b, "cov")) if quick is None else quick


def _by_traces(shift: float, rows: Tensor, trace: float, cov: Tensor) -> float | None:
    """The distance of covariances rows' rows, of this trace, and cov; None where rounding could be felt."""
    values = torch.linalg.eigvalsh(_lower(rows, cov)).clamp_min(0)
    both, eps = trace + float(cov.trace()), torch.finfo(values.dtype).eps
    value = shift + both - 2 * float(values.sqrt().sum())
    # Each eigenvalue is off by about eps times the largest, its root by that over 2 root; sums and traces add theirs.
    noise = eps * float(values[-1])
    lost = noise * float((1 / (values + noise).clamp_min(1e-300)).sum().sqrt()) + eps * len(cov) * both
    return value if lost <= ROUNDING * value else None


def _lower(rows: Tensor, cov: Tensor) -> Tensor:
    """The lower triangle of rows cov rows', all that a symmetric solver reads; L' skips its zeros."""
    product, square = rows.new_zeros(len(rows), len(rows)), rows.shape[0] == rows.shape[1]
    for start in range(0, len(rows), BLOCK):
        end = min(start + BLOCK, len(rows))
        first = start if square else 0  # the square one is L', upper triangular
        product[start:end, :end] = rows[start:end, first:] @ cov[first:] @ rows[:end].mT
    return product


def _by_squares(shift: float, left: Tensor, right: Tensor) -> float:
    """The distance of covariances left left' and right right', (d, r) and (d, q): no subtraction of large numbers."""
    # With right' left = P S Q', the trace term is min_U |left - right U|^2 over U of orthonormal rows or columns, and
    # what such a U leaves of the larger factor. It is zero for equal inputs and asks nothing of the rank.
    if left.shape[1] > right.shape[1]:
        left, right = right, left
    p, _, q = torch.linalg.svd(right.mT @ left, full_matrices=False)
    turned = right @ p
    return shift + float((left - turned @ q).square().sum() + (right - turned @ p.mT).square().sum())


def _contrasts(x: Tensor) -> Tensor:
    """(N - 1, d) rows of the same scatter about the mean as x (N, d) has: centred without the row of rank 0."""
    # The reflection that carries (1, ..., 1)/sqrt(N) to the first axis, without that axis.
    n = len(x)
    v = x.new_full((n,), n**-0.5)
    v[0] += 1
    return (x - torch.outer(v, v @ x) / v[0])[1:]


def _finite(x: Tensor, name: str) -> Tensor:
    """x in float64 on the host."""
    x = x.detach().double().cpu()
    if not torch.isfinite(x.sum()):  # as it is where any value is NaN or infinity, in a tenth of the time
        raise NonFinite(f"{name} of the Frechet distance is not finite: the features hold NaN or infinity")
    return x


def _factor(cov: Tensor, name: str) -> Tensor:
    """L with L L' = cov, (d, d); rank-deficient covariances, from fewer samples than dimensions, are welcome."""
    values, vectors = torch.linalg.eigh(cov)
    floor = -1e-10 * values.abs().amax().clamp_min(torch.finfo(values.dtype).tiny)
    if values.amin() < floor:
        raise ValueError(f"{name} needs eigenvalues >= 0, got {float(values.amin()):.3g}: this is no covariance")
    # What rounding left where an eigenvalue is 0 would come back as its root, a million times as large.
    noise = len(cov) * torch.finfo(values.dtype).eps * values[-1]
    return vectors * torch.where(values > noise, values, 0.0).sqrt()


def _sum_over_ranks(total: Tensor, group: Any = None) -> list[Tensor]:
    """One all-reduce, in the form in which torchmetrics takes it: the gathered list, here of the sum alone."""
    total = total.clone()
    dist.all_reduce(total, group=group)
    return [total]


class FrechetStatistics(Checked, Metric):
    """Count, mean and covariance of features, exact over any split into batches and ranks.

    mean = k + S/N, cov = (Q - S S'/N) / (N - 1), S = sum (x - k), Q = sum (x - k)(x - k)', all in float64.
    N - 1 as in torch-fidelity and the TensorFlow original. Count, S and Q are one tensor, so that ranks meet in one
    all-reduce; a rank without samples adds zeros. "GANs trained by a two time-scale update rule converge to a local
    Nash equilibrium" (Heusel et al., 2017), https://arxiv.org/abs/1706.08500

    shift: k, (dim,), the same on every rank; a value near the mean saves the digits that Q would lose, zero by default.
    """

    full_state_update = False
    is_differentiable = False
    total: Tensor
    shift: Tensor

    def __init__(self, dim: Count, shift: Tensor | None = None, **kwargs: Any) -> None:
        super().__init__(**{"dist_sync_fn": _sum_over_ranks, **kwargs})
        if shift is not None and shift.shape != (dim,):
            raise ValueError(f"FrechetStatistics needs a shift of shape ({dim},), got {tuple(shift.shape)}")
        self.dim = dim
        shift = torch.zeros(dim) if shift is None else shift
        self.register_buffer("shift", shift.detach().to(torch.float64, copy=True), persistent=False)
        self.add_state("total", torch.zeros(dim + 1, dim + 1, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, features: Tensor) -> None:
        """Add features (B, dim); B may be 0."""
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise ValueError(f"FrechetStatistics needs features (B, {self.dim}), got {tuple(features.shape)}")
        for part in features.detach().split(ROWS):
            x = part.double() - self.shift
            sums = x.sum(0)
            if not torch.isfinite(sums).all():
                raise NonFinite("features are not finite: the Frechet distance would be meaningless")
            self.total[0, 0] += len(x)
            self.total[0, 1:] += sums
            squares = self.total[1:, 1:]
            for start in range(0, self.dim, COLUMNS):
                end = start + COLUMNS
                squares[start:end, start:].addmm_(x[:, start:end].mT, x[:, start:])

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean (dim,) and covariance (dim, dim), float64."""
        count, s = self.total[0, 0], self.total[0, 1:]
        if count < 2:
            raise ValueError(f"FrechetStatistics needs 2 samples or more for a covariance, got {int(count)}")
        q = torch.addr(self.total[1:, 1:], s / -count, s).div_(count - 1).triu_()
        return self.shift + s / count, q.add_(q.triu(1).mT)

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add another instance's samples; both need the same shift."""
        if isinstance(incoming_state, FrechetStatistics) and not torch.equal(self.shift, incoming_state.shift):
            raise ValueError("FrechetStatistics can only be merged with equal shifts: give both the same one")
        super().merge_state(incoming_state)

    def _apply(self, fn: Callable, exclude_state: Any = "") -> "FrechetStatistics":
        # .to(bfloat16) and .half() would round the sums to 8 bits: they may move, their float64 stays.
        def move(x: Tensor) -> Tensor:
            moved = fn(x)
            return x.to(moved.device) if x.dtype == torch.float64 and moved.dtype != torch.float64 else moved

        return super()._apply(move, exclude_state)


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) of features (N, d) that one process holds; one pass in chunks, float64."""
    # The mean of the first M is within sqrt(N / M) standard deviations of that of all, in whatever order they are.
    shift = features[:ROWS].double().mean(0)
    statistics = FrechetStatistics(features.shape[1], shift, sync_on_compute=False).to(features.device)
    statistics.update(features)
    return statistics.compute()

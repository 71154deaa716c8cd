"""The Frechet distance of two Gaussians, and the float64 moments that it takes."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric

from lightning_gen.result import NonFinite


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), squared Wasserstein-2; float64, never negative."""
    # With A = L L', B = R R' and R'L = P S Q', the trace term is min_U |L - R U|^2 = |L - R P Q'|^2. A sum of squares
    # does not cancel, is zero for equal inputs and asks nothing of the rank; eigvals of A B takes roots of rounding.
    left, right = _factor(cov_a, "cov_a"), _factor(cov_b, "cov_b")
    shift = _finite(mean_a, "mean_a") - _finite(mean_b, "mean_b")
    p, _, q = torch.linalg.svd(right.mT @ left)
    return float(shift.square().sum() + (left - right @ (p @ q)).square().sum())


def _finite(x: Tensor, name: str) -> Tensor:
    """x in float64 on the host."""
    x = x.detach().double().cpu()
    if not torch.isfinite(x).all():
        raise NonFinite(f"{name} of the Frechet distance is not finite: the features hold NaN or infinity")
    return x


def _factor(cov: Tensor, name: str) -> Tensor:
    """L with L L' = cov, (d, d); rank-deficient covariances, from fewer samples than dimensions, are welcome."""
    values, vectors = torch.linalg.eigh(_finite(cov, name))
    floor = -1e-10 * values.abs().amax().clamp_min(torch.finfo(values.dtype).tiny)
    if values.amin() < floor:
        raise ValueError(f"{name} needs eigenvalues >= 0, got {float(values.amin()):.3g}: this is no covariance")
    return vectors * values.clamp_min(0).sqrt()


def _sum_over_ranks(total: Tensor, group: Any = None) -> list[Tensor]:
    """One all-reduce, in the form in which torchmetrics takes it: the gathered list, here of the sum alone."""
    total = total.clone()
    dist.all_reduce(total, group=group)
    return [total]


class FrechetStatistics(Metric):
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

    def __init__(self, dim: int, shift: Tensor | None = None, **kwargs: Any) -> None:
        super().__init__(**{"dist_sync_fn": _sum_over_ranks, **kwargs})
        if dim < 1:
            raise ValueError(f"FrechetStatistics needs dim >= 1, got {dim}")
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
        if not torch.isfinite(features).all():
            raise NonFinite("features are not finite: the Frechet distance would be meaningless")
        x = features.detach().double() - self.shift
        x = torch.cat([x.new_ones(len(x), 1), x], dim=1)
        self.total += x.mT @ x

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean (dim,) and covariance (dim, dim), float64."""
        count, s, q = self.total[0, 0], self.total[0, 1:], self.total[1:, 1:]
        if count < 2:
            raise ValueError(f"FrechetStatistics needs 2 samples or more for a covariance, got {int(count)}")
        return self.shift + s / count, (q - torch.outer(s, s) / count) / (count - 1)

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


def moments(features: Tensor, batch: int = 4096) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) of features (N, d) that one process holds; two passes, float64."""
    statistics = FrechetStatistics(features.shape[1], features.double().mean(0), sync_on_compute=False)
    statistics = statistics.to(features.device)
    for part in features.split(batch):
        statistics.update(part)
    return statistics.compute()

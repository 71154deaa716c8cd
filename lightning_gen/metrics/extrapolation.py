"""FID without its bias: the Frechet distance at infinitely many samples, from the same features."""

from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from lightning_gen.metrics.evaluation import Evaluation
from lightning_gen.metrics.fid import frechet_influence
from lightning_gen.metrics.frechet import frechet_of_features
from lightning_gen.metrics.registry import Measured, metric
from lightning_gen.options import checked


class Extrapolated(NamedTuple):
    """The intercept, its standard error, the slope in 1/N (the bias of N samples is slope / N), the sizes in use."""

    value: float
    error: float
    slope: float
    sizes: tuple[int, ...]


@checked
def frechet_infinity(
    features: Tensor, mean: Tensor, cov: Tensor, generator: torch.Generator, points: Annotated[int, Ge(3)] = 15
) -> Extrapolated:
    """FID_inf of features (n, d): FID(N) = FID_inf + slope / N, fitted to random subsets of n/10 to n of the samples.

    "Effectively unbiased FID and Inception Score and where to find them" (Chong & Forsyth, 2020),
    https://arxiv.org/abs/1911.07023
    The bias that the reference's own number leaves stays. Below d samples FID is not linear in 1/N. An estimate without
    bias is not cut at 0: near it the value may be negative, as KID's may.
    The subsets share samples, so the fit's residuals say too little: to first order the intercept is a weighted sum of
    the samples' influences, with weights from the fit and the subsets; the error joins both.
    """
    n = len(features)
    if n < 10 * 2:
        raise ValueError(f"frechet_infinity needs 20 samples or more, got {n}: give more")
    sizes = torch.linspace(n / 10, n, points).round().long().tolist()
    line = torch.stack([torch.ones(points), 1 / torch.tensor(sizes)], 1).double()
    fit = torch.linalg.pinv(line)  # (2, points): intercept and slope from the values
    values, share = torch.empty(points, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    for i, size in enumerate(sizes):
        index = torch.randperm(n, generator=generator)[:size]
        values[i] = frechet_of_features(features[index.to(features.device)], mean, cov)
        share[index] += fit[0, i] / size
    intercept, slope = (fit @ values).tolist()
    rest = (values - line @ (fit @ values)).square().sum() / (points - 2)
    drawn = frechet_influence(features, mean, cov).square().mean() * share.square().sum()
    return Extrapolated(intercept, float((drawn + rest * fit[0].square().sum()).sqrt()), slope, tuple(sizes))


@metric("fid_inf", "FID∞", "lower", least=20)
def fid_inf(evaluation: Evaluation) -> Measured:
    """The Frechet distance at infinitely many samples."""
    features, real = evaluation.features, evaluation.real
    limit = frechet_infinity(features, real.mean, real.cov, evaluation.draw("fid_inf"))
    flags = [*evaluation.scarce()]
    if limit.sizes[0] <= features.shape[1] < len(features):
        flags.append(f"not linear in 1/N: subsets from {limit.sizes[0]} images in {features.shape[1]} dimensions")
    if limit.value < 0:
        flags.append("below 0, which the distance cannot be: no difference is seen")
    protocol = {"bias": "the reference's own at its n", "error_by": "delta method and the fit's residuals"}
    protocol |= {"subset_sizes": [limit.sizes[0], limit.sizes[-1]], "subsets": len(limit.sizes)}
    return Measured(limit.value, limit.error, tuple(flags), protocol, {"bias_of_n_images": limit.slope / len(features)})

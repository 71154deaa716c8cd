"""FID of samples, with its standard error over draws of them, the reference held fixed."""

import torch
from torch import Tensor

from lightning_gen.metrics.evaluation import Evaluation
from lightning_gen.metrics.frechet import frechet_of_features
from lightning_gen.metrics.registry import Measured, metric

SMALL = 256  # dimensions up to which FID is measured again on resampled images: beyond, a resample costs seconds


@metric("fid", "FID", "lower", least=2)
def frechet_to_reference(evaluation: Evaluation) -> Measured:
    """The Frechet distance of the samples' features to the reference's."""
    features, real, resamples = evaluation.features, evaluation.real, evaluation.options.resamples
    error, method = frechet_bootstrap(features, real.mean, real.cov, evaluation.draw("fid", "bootstrap"), resamples)
    value, protocol = frechet_of_features(features, real.mean, real.cov), {"bias": "upwards at small n"}
    return Measured(value, error, evaluation.scarce(), {**protocol, "error_by": method})


def frechet_bootstrap(
    features: Tensor, mean: Tensor, cov: Tensor, generator: torch.Generator, resamples: int = 50
) -> tuple[float, str]:
    """Standard error of the Frechet distance of features (n, d) to moments, and its name.

    The standard deviation over `resamples` bootstraps; above 256 dimensions their first order, `frechet_error`.
    """
    if features.shape[1] > SMALL:
        return frechet_error(features, mean, cov), "delta method"
    x, values = features.cpu(), []
    for _ in range(resamples):
        again = torch.randint(len(x), (len(x),), generator=generator)
        values.append(frechet_of_features(x[again], mean, cov))
    return float(torch.tensor(values, dtype=torch.float64).std()), f"bootstrap, {resamples} resamples"


def frechet_error(features: Tensor, mean: Tensor, cov: Tensor) -> float:
    """Standard error of the Frechet distance by the delta method: the standard deviation of the influence over root n.

    It is of first order: it knows nothing of the bias, and is too small where the distance is near that of real data.
    """
    return float(frechet_influence(features, mean, cov).std() / len(features) ** 0.5)


def frechet_influence(features: Tensor, mean: Tensor, cov: Tensor) -> Tensor:
    """What each of n samples moves the distance by, times n, to first order: (n,), float64, about 0 on average.

    With a = mean - mean_r, d = x - mean and T = R (R'C R)^(-1/2) R', R R' = C_r, the map that carries the samples'
    Gaussian to the reference's, it is 2 a.d + d'(1 - T) d - its mean.
    """
    middle = sum(part.double().sum(0) for part in features.split(1024)).cpu() / len(features)
    mean, cov = mean.cpu(), cov.cpu()
    root, failed = torch.linalg.cholesky_ex(cov)
    if failed:
        values, vectors = torch.linalg.eigh(cov)
        root = vectors * values.clamp(min=0).sqrt()
    parts = [part.double().cpu() - middle for part in features.split(1024)]
    inner = sum((rows := d @ root).mT @ rows for d in parts) / (len(features) - 1)
    values, vectors = torch.linalg.eigh(inner)
    inverse = torch.where(values > 1e-10 * values[-1], values.clamp(min=1e-300).rsqrt(), 0.0)
    turn = root @ vectors * inverse.sqrt()
    shift = 2 * (middle - mean)
    influence = [d @ shift + d.square().sum(1) - (d @ turn).square().sum(1) for d in parts]
    return torch.cat(influence) - torch.cat(influence).mean()

"""Memorisation: are samples nearer to the training images than images that the model has never seen?"""

from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from lightning_gen.metrics.distances import check_features, nearest
from lightning_gen.metrics.evaluation import Evaluation
from lightning_gen.metrics.registry import Measured, metric
from lightning_gen.options import OpenUnitInterval, checked


class Memorised(NamedTuple):
    """`share` of the samples below the threshold, its error; P(nearer than a held-out image), and C_T, its z-score."""

    share: float
    error: float
    threshold: float
    nearer: float
    c_t: float


@checked
def memorised(
    samples: Tensor,
    train: Tensor,
    held_out: Tensor,
    generator: torch.Generator,
    alpha: OpenUnitInterval = 0.05,
    resamples: Annotated[int, Ge(2)] = 200,
) -> Memorised:
    """Of features (n, d), against train (N, d) and held_out (m, d); `memorised_distances` of the nearest distances."""
    check_features(2, "memorisation", samples=samples, train=train, held_out=held_out)
    near = [nearest(x, train)[0][:, 0].sqrt().cpu() for x in (samples, held_out)]
    return memorised_distances(*near, generator, alpha, resamples)


@checked
def memorised_distances(
    samples: Tensor,
    held_out: Tensor,
    generator: torch.Generator,
    alpha: OpenUnitInterval = 0.05,
    resamples: Annotated[int, Ge(2)] = 200,
) -> Memorised:
    """Distances to the nearest training image: of samples (n,), and of held-out images (m,).

    share = #{samples nearer than the alpha-quantile of the held-out distances} / n: alpha for a model that draws from
    the data's law, 1 for one that copies. Its error is the standard deviation over `resamples` bootstraps of both, or,
    where all samples are on one side and these see no spread, that of a share (k + 2) / (n + 4)
    (Agresti & Coull, 1998, https://doi.org/10.1080/00031305.1998.10480550).
    nearer = P(sample < held-out) + P(equal) / 2: 1/2 and 1. C_T is its z-score, negative where samples are too near.
    "A non-parametric test to detect data-copying in generative models" (Meehan et al., 2020),
    https://arxiv.org/abs/2004.05675
    """
    samples, held_out = samples.double(), held_out.double().sort().values
    n, m = len(samples), len(held_out)
    threshold = torch.quantile(held_out, alpha)
    below, above = (m - torch.searchsorted(held_out, samples, right=right) for right in (True, False))
    nearer = float((below + above).double().mean() / (2 * m))
    spread = ((n + m + 1) / (12 * n * m)) ** 0.5

    def resample(x: Tensor) -> Tensor:
        return x[torch.randint(len(x), (len(x),), generator=generator)]

    shares = [(resample(samples) < torch.quantile(resample(held_out), alpha)).double().mean() for _ in range(resamples)]
    count = int((samples < threshold).sum())
    smoothed = (count + 2) / (n + 4)
    error = float(torch.stack(shares).std()) or (smoothed * (1 - smoothed) / (n + 4)) ** 0.5
    return Memorised(count / n, error, float(threshold), nearer, (0.5 - nearer) / spread)


@metric("memorised", "memorised", "lower", least=2, needs="memory")
def memorised_share(evaluation: Evaluation) -> Measured:
    """The share of samples that are nearer to a training image than nearly all held-out images are."""
    features, alpha, at_most = evaluation.features, evaluation.options.alpha, evaluation.options.at_most
    train, held_out = (reference.features.to(features.device) for reference in evaluation.memory)
    m = min(len(held_out), at_most)
    near = memorised(features[:at_most], train, held_out[:m], evaluation.draw("memorised"), alpha)
    flags = (f"{m} held-out images for a quantile of {alpha}",) if m * alpha < 1 else ()
    protocol = {"alpha": alpha, "expected": alpha, "n_train": len(train), "n_held_out": m}
    protocol |= {"images": min(len(features), at_most), "error_by": "bootstrap, 200 resamples", "bias": "none"}
    observed = {"threshold": near.threshold, "nearer_than_held_out": near.nearer, "c_t": near.c_t}
    return Measured(near.share, near.error, flags, protocol, observed)

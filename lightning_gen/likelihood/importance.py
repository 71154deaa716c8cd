"""log p(x) of a latent-variable model by importance sampling: a lower bound in expectation, tighter with every draw."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_gen.models import Encoded
from lightning_gen.options import Count, checked


@dataclass(frozen=True)
class Bounds:
    """Of each x, nats, float64, (B,): log 1/K sum_k w_k, the mean of log w_k, and ESS = (sum w)^2 / sum w^2 in [1, K].

    E log 1/K sum_k w_k <= log p(x), rising with K to it; at K = 1, and in the mean of log w_k, it is the evidence lower
    bound. 1/K sum_k w_k itself is unbiased for p(x).
    """

    iwae: Tensor
    elbo: Tensor
    ess: Tensor


@checked
@torch.no_grad()
def log_weights(
    model: Encoded,
    x: Tensor,
    samples: Count,
    generator: torch.Generator | None = None,
    together: int = 10_000,
    progress: Callable[[], Any] | None = None,
) -> Tensor:
    """log w_k = log p(x|z_k) + log p(z_k) - log q(z_k|x), z_k ~ q(z|x), nats, float64, (B, samples).

    The encoder is called once an x, the decoder on about `together` latent vectors at a time. Auto-encoding variational
    Bayes (Kingma & Welling, 2014), appendix D; importance weighted autoencoders (Burda et al., 2016),
    https://arxiv.org/abs/1509.00519
    """
    mean, log_variance = model.posterior(x)
    found = []
    for k in portions(samples, len(x), together):
        rows = [part.repeat_interleave(k, 0) for part in (x, mean, log_variance)]
        z = model.sample_posterior(rows[1], rows[2], generator)
        found.append(model.log_weight(*rows, z).double().view(len(x), k))
        if progress is not None:
            progress()
    return torch.cat(found, 1)


def portions(samples: int, batch: int, together: int) -> list[int]:
    """How many draws an x are made at once, portion by portion."""
    size = max(1, together // batch)
    return [min(size, samples - start) for start in range(0, samples, size)]


def bounds(log_w: Tensor) -> Bounds:
    """The bounds that log w, (B, K), gives of each x."""
    k = log_w.shape[1]
    total = log_w.logsumexp(1)
    ess = (2 * total - (2 * log_w).logsumexp(1)).exp()
    return Bounds(total - math.log(k), log_w.mean(1), ess)

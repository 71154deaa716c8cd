"""log p(x) of a latent-variable model by importance sampling: a lower bound in expectation, tighter as K grows."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_gen.likelihood.proposals import EncoderProposal, Proposal, log_normal
from lightning_gen.models import ObservationModel
from lightning_gen.options import Count, checked


@dataclass(frozen=True)
class Bounds:
    """Lower bounds on log p(x) in expectation, nats, float64, (B,).

    Args:
        iwae: log 1/K sum_k w_k, whose expectation grows to log p(x) with K.
        elbo: 1/K sum_k log w_k, the evidence lower bound.
        ess: effective sample size (sum_k w_k)^2 / sum_k w_k^2, in [1, K].
    """

    iwae: Tensor
    elbo: Tensor
    ess: Tensor


@checked
@torch.no_grad()
def log_weights(
    model: ObservationModel,
    x: Tensor,
    samples: Count,
    generator: torch.Generator | None = None,
    together: int = 10_000,
    progress: Callable[[], Any] | None = None,
    proposal: Proposal | None = None,
) -> Tensor:
    """log w_k = log p(x|z_k) + log p(z_k) - log q(z_k|x), z_k ~ q(z|x), nats, float64, (B, K); E_q w = p(x).

    Auto-encoding variational Bayes (Kingma & Welling, 2014), appendix D, https://arxiv.org/abs/1312.6114;
    importance weighted autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519

    Args:
        model: a model with p(x|z).
        x: data, (B, ...); an encoder is called once.
        samples: K, draws of z per x, >= 1.
        generator: source of the draws.
        together: latent vectors per call of the decoder, about.
        progress: called after each call of the decoder.
        proposal: q; null for the encoder's.
    """
    proposal, parts = proposal or EncoderProposal(), []
    proposal.check(model)
    statistics, labels = proposal.statistics(model, x), model.label
    for k in draws_per_pass(samples, len(x), together):
        rows = [part.repeat_interleave(k, 0) for part in (x, *statistics)]
        bound = model if labels is None else model.with_label(labels.repeat_interleave(k, 0))
        z, log_q = proposal.draw(bound, rows[0], generator, *rows[1:])
        log_w = bound.log_conditional(rows[0], z) + log_normal(z) - log_q
        parts.append(log_w.double().view(len(x), k))
        if progress is not None:
            progress()
    return torch.cat(parts, 1)


def draws_per_pass(samples: int, batch: int, together: int) -> list[int]:
    """Draws per x in each call of the decoder; they sum to `samples`."""
    size = max(1, together // batch)
    return [min(size, samples - start) for start in range(0, samples, size)]


def bounds(log_w: Tensor) -> Bounds:
    """The bounds by log w, (B, K)."""
    k = log_w.shape[1]
    total = log_w.logsumexp(1)
    ess = (2 * total - (2 * log_w).logsumexp(1)).exp()
    return Bounds(total - math.log(k), log_w.mean(1), ess)

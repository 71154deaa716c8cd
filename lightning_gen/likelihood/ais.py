"""Annealed importance sampling: log Z of an energy, from both sides.

With p_k = exp(-E_k) / Z_k from a tractable distribution (k = 0) to the model (k = K), v_1 ~ p_0, v_{k+1} ~ T_k(v_k),
T_k leaving p_k invariant, log w = sum_k E_{k-1}(v_k) - E_k(v_k). Then E w = Z / Z_0, so E log(Z_0 mean w) <= log Z, and
the log-likelihood by it is an upper bound in expectation. Reverse AIS, from an exact sample of the model, bounds log Z
from above (Grosse et al., 2015); from other starts it is an estimate without a bound.
Annealed importance sampling (Neal, 2001), https://arxiv.org/abs/physics/9803008; for RBMs (Salakhutdinov & Murray,
2008), https://doi.org/10.1145/1390156.1390266; Sandwiching the marginal likelihood, https://arxiv.org/abs/1511.02543
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from lightning_gen.likelihood.paths import AnnealingPath
from lightning_gen.options import Count, checked


@checked
def temperatures(schedule: Literal["salakhutdinov"] | Count) -> list[float]:
    """Inverse temperatures 0 = beta_0 < ... < beta_K = 1.

    Args:
        schedule: K for equal steps, >= 1; or salakhutdinov, the paper's 14,500: 0:1/1000:0.5, 0.5:1/10000:0.9,
            0.9:1/100000:1.
    """
    if schedule == "salakhutdinov":
        parts = ((500, 0.0, 0.5), (4000, 0.5, 0.9), (10000, 0.9, 1.0))
        return [a + (b - a) * i / n for n, a, b in parts for i in range(n)] + [1.0]
    return [i / schedule for i in range(schedule + 1)]


@torch.no_grad()
def log_weights(
    path: AnnealingPath,
    betas: list[float],
    v: Tensor,
    generator: torch.Generator,
    reverse: bool = False,
    progress: Callable[[], Any] | None = None,
) -> Tensor:
    """log w of each chain, nats, float64, (n,).

    log Z is estimated by log_z0 + log mean w forward, by log_z0 - log mean w in reverse.

    Args:
        path: the distributions and transitions.
        betas: inverse temperatures 0 = beta_0 < ... < beta_K = 1.
        v: samples of p_0, or in reverse of p_1, (n, ...).
        generator: source of the transitions' noise.
        reverse: whether to go from beta = 1 to 0.
        progress: called after each of K steps.
    """
    order = betas[::-1] if reverse else betas
    total, parts = torch.zeros(len(v), dtype=torch.float64, device=v.device), path.evaluate(v)
    for k, (old, new) in enumerate(zip(order, order[1:], strict=False)):
        if k:
            v, parts = path.move(v, parts, old, generator)
        total += path.difference(parts, old, new)
        if progress is not None:
            progress()
    return total


class Partition(NamedTuple):
    """log Z and its standard error, nats, and the effective sample size of the weights, in [1, n]."""

    log_z: float
    error: float
    ess: float


def partition(path: AnnealingPath, weights: Tensor, reverse: bool = False) -> Partition:
    """log Z by log weights (n,); the standard error is that of log mean w to first order."""
    n = len(weights)
    mean = float(torch.logsumexp(weights, 0)) - math.log(n)
    w = (weights - mean).exp()
    error = float(w.std() / n**0.5) if n > 1 else math.nan
    ess = float(w.sum().square() / w.square().sum())
    return Partition(path.log_z0 + (-mean if reverse else mean), error, ess)

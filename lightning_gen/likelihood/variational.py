"""The variational bound of a discrete diffusion, term by term, in bits/dim.

-log p(x_0) <= L_T + sum_{k=2}^T L_{k-1} + L_0, with L_T = KL(q(x_T|x_0) || N(0, I)), L_{k-1} = KL(q(x_{k-1}|x_k,x_0)
|| p(x_{k-1}|x_k)) and L_0 = -log p(x_0|x_1), a Gaussian integrated over the bin of each 8-bit value.
DDPM (Ho et al., 2020), eq. 5 and 13, https://arxiv.org/abs/2006.11239, in two conventions, both of them bounds:

- `paper`: L_0 has the variance of p(x_0|x_1), beta_1 for `large`, and the predicted x_0 is what the network says.
- `code`: L_0 has the posterior's variance of k = 2, beta_2 (1 - alpha_1^2) / (1 - alpha_2^2), for `large` and `small`
  alike, and the predicted x_0 is clipped to the data's range in every term. The authors' published numbers are these.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_gen.models import Scored
from lightning_gen.process import Process, instant
from lightning_gen.samplers import Ancestral

Variance = Literal["small", "large"]
Convention = Literal["paper", "code"]


def decoder_nats(x: Tensor, mean: Tensor, sigma: float, value_range: tuple[float, float]) -> Tensor:
    """-log of the integral of N(mean, sigma^2) over the bin of x among 256, the outer bins unbounded, (B, ...)."""
    low, high = value_range
    half = (high - low) / 510
    normal = torch.special.log_ndtr
    above, below = (x + half - mean) / sigma, (x - half - mean) / sigma
    # In the nearer tail: log(F(b) - F(a)) = log F(b) + log(1 - exp(log F(a) - log F(b))).
    flip = (above + below) > 0
    upper, lower = torch.where(flip, -below, above), torch.where(flip, -above, below)
    outer, inner = normal(upper), normal(lower)
    inside = outer + log1mexp(outer - inner)
    inside = torch.where(x > high - half, normal(-below), inside)
    return -torch.where(x < low + half, normal(above), inside)


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - e^{-x}) for x > 0."""
    return torch.where(x < math.log(2), (-torch.expm1(-x)).log(), torch.log1p(-torch.exp(-x)))


@torch.no_grad()
def variational_bound(
    model: Scored,
    x: Tensor,
    generator: torch.Generator,
    value_range: tuple[float, float] | None = (-1.0, 1.0),
    variance: Variance = "large",
    progress: Callable[[], Any] | None = None,
    convention: Convention = "paper",
) -> Tensor:
    """The terms L_0, L_1, ..., L_T in bits/dim, (B, T + 1), whose sum bounds -log2 p(x_0) / d in expectation.

    ValueError for a process that is not discrete, and for the convention `code` without a range to clip to.

    Args:
        model: a model with a score.
        x: 8-bit data in model space, not dequantised, or real data, (B, ...).
        generator: source of one noise draw per term.
        value_range: lowest and highest value of 8-bit data in model space; None for real data, whose L_0 is the
            density -log N(x_0; mean, sigma^2 I), so that the sum bounds that of x_0.
        variance: of p(x_{k-1}|x_k): large, beta; small, the posterior's.
        progress: called after each of T terms.
        convention: paper or code, see above.
    """
    process = model.process
    if process.steps is None:
        raise ValueError(
            f"variational_bound got the process {type(process).__name__}, expected a discrete one: choose DiscreteVP"
        )
    if convention == "code" and value_range is None:
        raise ValueError("variational_bound got convention code without value_range, to which it clips: give the range")
    terms = [prior_nats(process.alpha(final_time(x)).double(), process.variance(final_time(x)).double(), x)]
    for t, s, (alpha_t, sigma_t, alpha_s, sigma_s, _, fresh) in Ancestral(variance).moments(process):
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        clean = model.denoise(alpha_t * x + sigma_t * noise, instant(t, x))
        if convention == "code":
            clean = clean.clamp(*value_range)
        if s == 0:
            sigma = decoder_deviation(process, variance, convention)
            if value_range is None:
                squares = (x - clean).double().square() / sigma**2
                nats = 0.5 * (squares + math.log(2 * math.pi * sigma**2))
            else:
                nats = decoder_nats(x.double(), clean.double(), sigma, value_range)
        else:
            true = fresh * sigma_s**2 / sigma_t**2
            ratio = 1.0 if variance == "small" else true / fresh
            squares = (alpha_s * fresh / sigma_t**2) ** 2 * (x - clean).double().square() / (true / ratio)
            nats = 0.5 * (ratio - 1 - math.log(ratio) + squares)
        terms.append(nats.flatten(1).mean(1))
        if progress is not None:
            progress()
    return torch.stack(terms[::-1], dim=1) / math.log(2)


def final_time(x: Tensor) -> Tensor:
    """t = 1 on the device of x, ()."""
    return instant(1.0, x[:1])[0]


def prior_nats(alpha: Tensor, variance: Tensor, x: Tensor) -> Tensor:
    """KL(N(alpha x, variance) || N(0, I)) per dimension, (B,)."""
    means = (alpha * x).double().square().flatten(1).mean(1)
    return 0.5 * (variance - 1 - variance.log() + means)


def decoder_deviation(process: Process, variance: Variance = "large", convention: Convention = "paper") -> float:
    """Standard deviation of p(x_0|x_1) in L_0; ValueError for one step where it takes two.

    The posterior's own, at k = 1, is 0: `small` decodes with that of k = 2, and so does Ho et al.'s code with `large`.
    """
    first = float(process.variance(torch.tensor(1 / process.steps, dtype=torch.float64)))
    if variance == "large" and convention == "paper":
        return math.sqrt(first)
    if process.steps < 2:
        raise ValueError(
            f"the variational bound with variance {variance} and convention {convention} decodes as in step 2, got a "
            "process of 1 step: choose variance large and convention paper"
        )
    t = torch.tensor([1.0, 2.0], dtype=torch.float64) / process.steps
    (a1, a2), (v1, v2) = process.alpha(t), process.variance(t)
    return math.sqrt(float((v2 - (a2 / a1).square() * v1) * v1 / v2))

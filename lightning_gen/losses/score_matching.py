"""Denoising score matching: the weighted squared error of the predicted noise at random times."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_gen.losses.base import Loss
from lightning_gen.losses.times import Times
from lightning_gen.models import Scored
from lightning_gen.options import Positive, checked
from lightning_gen.process import Process, double
from lightning_gen.randomness import noise_like

Weight = Callable[[Process, Tensor], Tensor]


def simple(process: Process, t: Tensor) -> Tensor:
    """1: the error of the noise. DDPM's L_simple (Ho et al., 2020, eq. 14); NCSN's lambda = sigma^2."""
    return torch.ones_like(t)


def clean(process: Process, t: Tensor) -> Tensor:
    """sigma^2 / alpha^2: the error of x_0, since alpha x_0 = x_t - sigma noise."""
    return 1 / process.snr(t)


def velocity(process: Process, t: Tensor) -> Tensor:
    """((alpha^2 + sigma^2) / alpha)^2: the error of v = alpha noise - sigma x_0."""
    alpha = process.alpha(t)
    return ((alpha.square() + process.variance(t)) / alpha).square()


def score(process: Process, t: Tensor) -> Tensor:
    """1 / sigma^2: the error of the score. Vincent (2011), https://doi.org/10.1162/NECO_a_00142"""
    return 1 / process.variance(t)


def likelihood(process: Process, t: Tensor) -> Tensor:
    """g^2 / sigma^2: the error of the score times g^2, a bound on the negative log-likelihood in continuous time.

    Maximum likelihood training of score-based diffusion models (Song et al., 2021), https://arxiv.org/abs/2101.09258
    """
    return process.sde(t)[1] / process.variance(t)


@checked
def edm(sigma_data: Positive = 0.5) -> Weight:
    """(level^2 + sigma_data^2) / sigma_data^2, level = sigma / alpha: the error of x_0 times 1 / c_out^2.

    EDM (Karras et al., 2022), table 1, https://arxiv.org/abs/2206.00364

    Args:
        sigma_data: standard deviation of the data per dimension, in model space, > 0.
    """
    return lambda process, t: 1 + 1 / (process.snr(t) * sigma_data**2)


@checked
def vlb(variance: Literal["small", "large"] = "large") -> Weight:
    """beta^2 / (2 v (1 - beta)(1 - alpha^2)) at t = k / T, of a discrete process with T >= 2 steps, else ValueError.

    T times the mean over k is the sum of the variational bound's terms that depend on the model, nats per dimension.
    DDPM (Ho et al., 2020), eq. 12, https://arxiv.org/abs/2006.11239

    Args:
        variance: v, the sampler's variance: large, beta; small, the posterior's, and at k = 1, where that is 0, that of
            k = 2.
    """

    def weigh(process: Process, t: Tensor) -> Tensor:
        if process.steps is None or process.steps < 2:
            raise ValueError(
                f"loss.weight is vlb with the process {type(process).__name__}, expected a discrete process of at "
                "least 2 steps: choose likelihood"
            )

        def step(t: Tensor) -> tuple[Tensor, Tensor]:
            s = (t - 1 / process.steps).clamp(min=0)
            ratio = process.alpha(t) / process.alpha(s)
            beta = process.variance(t) - ratio.square() * process.variance(s)
            return beta, beta * process.variance(s) / process.variance(t)

        t = double(t)
        beta, _ = step(t)
        v = beta if variance == "large" else step(t.clamp(min=2 / process.steps))[1]
        return beta.square() / (2 * v * (1 - beta) * process.variance(t))

    return weigh


WEIGHTS: dict[str, Weight] = {
    "simple": simple,
    "clean": clean,
    "velocity": velocity,
    "score": score,
    "likelihood": likelihood,
    "edm": edm(),
    "vlb": vlb(),
}


class DenoisingScoreMatching(Loss):
    """w(t) ||E[noise | x_t] - noise||^2 at random times t, which equals w(t) sigma^2 ||s + noise / sigma||^2.

    A connection between score matching and denoising autoencoders (Vincent, 2011),
    https://doi.org/10.1162/NECO_a_00142

    Args:
        times: distribution of t, (n, generator) -> (n,) in [0, 1].
        weight: w, the name of a weight or a function (process, t) -> w(t), (B,).
        reduction: mean over dimensions (DDPM), or half the sum (NCSN).
    """

    needs = (Scored,)
    supports = ("real",)
    unshardable = None

    def __init__(
        self,
        times: Times,
        weight: Literal["simple", "clean", "velocity", "score", "likelihood", "edm", "vlb"] | Weight = "simple",
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        self.times, self.weigh, self.reduction = times, WEIGHTS.get(weight, weight), reduction

    def check(self, model: Scored) -> None:
        """TypeError for a model without a score, ValueError for a process without noise."""
        super().check(model)
        if not model.process.prior_sigma > 0:
            raise ValueError(
                f"{type(self).__name__} needs a process with noise, got {type(model.process).__name__}: choose "
                "ExactScoreMatching or SlicedScoreMatching, or the process VE(sigma, sigma)"
            )

    def forward(self, model: Scored, x: Tensor, generator: torch.Generator) -> Tensor:
        """Weighted squared error of each sample, (B,)."""
        t = self.times(len(x), generator)
        noise = noise_like(x, generator)
        error = F.mse_loss(model.noise(model.process.perturb(x, t, noise), t), noise, reduction="none").flatten(1)
        error = error.mean(1) if self.reduction == "mean" else error.sum(1) / 2
        return error if self.weigh is simple else self.weigh(model.process, t).to(error.dtype) * error

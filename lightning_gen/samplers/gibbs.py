"""Block Gibbs sampling of models with hidden units, and Gibbs-Langevin for Gaussian visible units."""

from typing import Any

import torch
from torch import Tensor

from lightning_gen.models import Conditionals, GaussianConditionals
from lightning_gen.options import Count, Positive
from lightning_gen.randomness import Source, bernoulli, noise_like
from lightning_gen.samplers.base import Stepwise, Transition
from lightning_gen.samplers.mcmc import MarkovChain, Start


class Gibbs(Stepwise):
    """h ~ p(h|v), then v ~ p(v|h), `steps` times: p(v, h) is left exactly invariant.

    The carry is the hidden units' logits at v, (B, H).
    Training products of experts (Hinton, 2002), https://doi.org/10.1162/089976602760128018

    Args:
        steps: number of sweeps, >= 1.
        mean: whether the last sweep gives E[v|h], as pictures of RBMs do, in place of a sample of v.
    """

    needs = (Conditionals,)
    carries_logits = True

    def __init__(self, steps: Count = 1000, mean: bool = False) -> None:
        self.steps, self.mean = steps, mean

    def plan(self, model: Conditionals, shape: tuple[int, ...]) -> list[Transition]:
        """Sweeps with coefficient 1, and with `mean` a last one with coefficient 0."""
        draw, mean = Transition(0.0, 0.0, (1.0,)), Transition(0.0, 0.0, (0.0,))
        return [draw] * (self.steps - self.mean) + [mean] * self.mean

    def step(
        self, model: Conditionals, x: Tensor, transition: Transition, carry: Any, generator: Source
    ) -> tuple[Tensor, Tensor]:
        """v after one sweep, (B, ...), and the hidden units' logits at it, (B, H)."""
        logits = model.logits(x) if carry is None else carry
        h = bernoulli(logits.sigmoid(), generator)
        x = self.draw_visible(model, x, h, generator) if transition.coefficients[0] else model.visible(h)
        return x, model.logits(x)

    def draw_visible(self, model: Conditionals, x: Tensor, h: Tensor, generator: Source) -> Tensor:
        """v ~ p(v|h), (B, ...)."""
        return model.sample_visible(h, generator)


class GibbsLangevin(Gibbs, MarkovChain):
    """h ~ p(h|v), then `inner` Langevin steps of size eta from v towards p(v|h) = N(m, sigma^2).

    v <- v + (eta / sigma^2)(m - v) + sqrt(2 eta) z is an autoregression, so `inner` steps are one Gaussian draw: mean
    m + r^inner (v - m) with r = 1 - eta / sigma^2, variance 2 eta (1 - r^(2 inner)) / (1 - r^2). For many inner steps
    at small eta it is Gibbs; at finite eta the variance of v given h tends to sigma^2 / (1 - eta / (2 sigma^2)).
    Liao et al. (2022), algorithm 2 without its Metropolis step, https://arxiv.org/abs/2210.10318

    Args:
        steps: number of sweeps, >= 1.
        inner: Langevin steps in a sweep, >= 1.
        step_size: eta, in units of sigma^2 and below 2 where relative is true, else in squared units of the data.
        relative: whether step_size is in units of each visible unit's sigma^2.
        mean: whether the last sweep gives E[v|h] in place of a sample of v.
        start, spread: those of MarkovChain.
    """

    needs = (GaussianConditionals,)
    supports = ("real",)

    def __init__(
        self,
        steps: Count = 100,
        inner: Count = 10,
        step_size: Positive = 0.1,
        relative: bool = True,
        mean: bool = False,
        start: Start = "prior",
        spread: Positive = 1.0,
    ) -> None:
        if relative and not step_size < 2:
            raise ValueError(
                f"GibbsLangevin.step_size is {step_size} sigma^2, expected below 2, or the chain diverges: lower it"
            )
        MarkovChain.__init__(self, start, spread)
        self.steps, self.inner, self.step_size, self.relative, self.mean = steps, inner, step_size, relative, mean

    def draw_visible(self, model: GaussianConditionals, x: Tensor, h: Tensor, generator: Source) -> Tensor:
        """v after `inner` Langevin steps from x towards p(v|h), (B, ...)."""
        mean, (factor, variance) = model.visible(h), self.moments(model, x.shape[1:])
        return torch.lerp(mean.to(x.dtype), x, factor).addcmul_(variance.sqrt(), noise_like(x, generator))

    def moments(self, model: GaussianConditionals, shape: tuple[int, ...]) -> tuple[float | Tensor, Tensor]:
        """r^inner, a number where step_size is relative, and the variance that `inner` steps add; else of `shape`."""
        variance = model.variance.view(shape)
        eta = self.step_size if self.relative else self.step_size / variance  # in units of sigma^2
        ratio = 1 - eta
        return ratio**self.inner, 2 * eta * (1 - ratio ** (2 * self.inner)) / (1 - ratio**2) * variance

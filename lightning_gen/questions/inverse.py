"""What x may be given y = A x + sigma noise: draws of p(x|y), by a chain, or approximate by a guided diffusion."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from lightning_gen.models import LatentVariables, Scored, SmoothEnergy
from lightning_gen.options import Count, Positive, value_and_type
from lightning_gen.process import Process, instant
from lightning_gen.questions.base import Answer
from lightning_gen.questions.conditioned import (
    LatentEnergy,
    Observed,
    ObservedScore,
    OneLevelLangevin,
    Operator,
    metropolis,
    start_of,
)
from lightning_gen.randomness import noise_like
from lightning_gen.samplers import HMC, MALA, Ancestral

LEAST_ALPHA = 0.01


def linear_map(operator: Tensor | Callable, y: Tensor, shape: tuple[int, ...]) -> Operator:
    """A as a function of x (B, *shape) to (B, m); ValueError where it does not give something like y (B, m)."""
    apply = operator
    if isinstance(operator, Tensor):
        matrix = operator.to(y)

        def apply(x: Tensor) -> Tensor:
            return x.flatten(1) @ matrix.T

        if matrix.ndim != 2 or matrix.shape[1] != y.new_empty(shape).numel():
            raise ValueError(
                f"operator has shape {tuple(matrix.shape)}, expected (m, {y.new_empty(shape).numel()}): transpose it"
            )
    made = apply(y.new_zeros(len(y), *shape))
    if not isinstance(made, Tensor):
        raise TypeError(f"operator gives {value_and_type(made)}, expected a tensor (B, m): mend it")
    if made.shape != y.shape:
        raise ValueError(f"y has shape {tuple(y.shape)}, and A x {tuple(made.shape)}, expected the same: reshape y")
    return apply


class PosteriorMetropolis(Answer):
    """Langevin proposals with a Metropolis test: p(x|y), proportional to exp(-E(x)) N(y; A x, sigma^2), is invariant.

    Args:
        sampler: MALA or HMC; null for 1,000 steps of MALA.
        tune: whether the first half of the chain finds the step size.
    """

    name = "MALA"
    needs = (SmoothEnergy,)
    supports = ("real",)

    def __init__(self, sampler: MALA | HMC | None = None, tune: bool = True) -> None:
        self.sampler, self.tune = MALA(1000, 1e-2) if sampler is None else sampler, tune

    def __call__(
        self, model: SmoothEnergy, like: Tensor, y: Tensor, operator: Operator, sigma: float, generator: torch.Generator
    ) -> Tensor:
        """The end of a chain, like x."""
        start = start_of(model, self.sampler, like, generator)
        return metropolis(self.sampler, Observed(model, y, operator, sigma), start, generator, self.tune)


class PosteriorLangevin(OneLevelLangevin):
    """Langevin steps by the score of p(x|y)."""

    def __call__(
        self, model: Scored, like: Tensor, y: Tensor, operator: Operator, sigma: float, generator: torch.Generator
    ) -> Tensor:
        """The end of a chain, like x."""
        start = self.sampler.start(model, tuple(like.shape), generator).to(like)
        return self.sampler(ObservedScore(model, y, operator, sigma), start, generator)


class GuidedDiffusion(Answer):
    """Base of ancestral sampling that is drawn towards y: approximate.

    Where alpha_t < .01, x_t says next to nothing of x_0, and E[x_0 | x_t] and its slope are read at the last time of
    more: the factor of Tweedie's covariance multiplies the error of that slope by at most 100, and is finite at
    alpha(1) = 0, too.

    Args:
        steps: of the reverse diffusion, at most the T of a discrete process.
        variance: that of Ancestral.
    """

    needs = (Scored,)
    supports = ("real",)

    def __init__(self, steps: Count = 250, variance: Literal["small", "large"] = "large") -> None:
        self.steps, self.variance = steps, variance

    def sampler(self, model: Scored) -> Ancestral:
        """The steps for this model."""
        return Ancestral(self.variance, min(self.steps, model.process.steps or self.steps))

    def check(self, model: Scored) -> None:
        """TypeError for a process whose noise does not grow."""
        super().check(model)
        self.sampler(model).check(model)

    @abstractmethod
    def guided(
        self, x: Tensor, clean: Tensor, y: Tensor, operator: Operator, sigma: float, level: float
    ) -> tuple[Tensor, Tensor]:
        """E[x_0 | x_t, y] or an estimate of it, and what is added to x_s, like x; clean is E[x_0 | x_t] with its graph.

        `level` is sigma_t^2 / alpha_t, the factor of Tweedie's covariance.
        """

    def __call__(
        self, model: Scored, like: Tensor, y: Tensor, operator: Operator, sigma: float, generator: torch.Generator
    ) -> Tensor:
        """A draw, like x."""
        x, sampler = model.prior(tuple(like.shape), generator).to(like), self.sampler(model)
        plan = sampler.plan(model, tuple(like.shape))
        last = last_legible(model.process)
        for transition in plan:
            keep, pull, noise = transition.coefficients
            t = torch.tensor(min(transition.t, last), dtype=torch.float64)
            level = float(model.process.variance(t) / model.process.alpha(t))
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                clean = model.denoise(x, instant(float(t), x))
                mean, shift = self.guided(x, clean, y, operator, sigma, level)
            x = keep * x.detach() + pull * mean.detach() + shift.detach()
            x = x + noise * noise_like(x, generator) if noise else x
        return x


def last_legible(process: Process) -> float:
    """The last of 1,000 equally spaced times, or of those of a discrete process, with alpha >= .01."""
    times = torch.linspace(0, 1, (process.steps or 1000) + 1, dtype=torch.float64)
    return float(times[process.alpha(times) >= LEAST_ALPHA].max())


class MomentMatching(GuidedDiffusion):
    """Ancestral steps by E[x_0 | x_t, y] for a Gaussian x_0 given x_t, of mean E[x_0 | x_t] and Tweedie's covariance.

    C = sigma_t^2 / alpha_t dE[x_0 | x_t] / dx_t is exact; the law of x_0 given x_t is taken for a Gaussian, which it
    is for Gaussian data. A step costs m vector-Jacobian products for y of m values.
    Tweedie moment projected diffusions (Boys et al., 2023), https://arxiv.org/abs/2310.06721

    Args:
        steps, variance: those of GuidedDiffusion.
    """

    name = "moment matching"

    def guided(
        self, x: Tensor, clean: Tensor, y: Tensor, operator: Operator, sigma: float, level: float
    ) -> tuple[Tensor, Tensor]:
        """E[x_0 | x_t] + C AT (A C AT + sigma^2 I)^-1 (y - A E[x_0 | x_t]), and 0."""
        seen = operator(clean)
        slopes = [torch.autograd.grad(seen[:, j].sum(), x, retain_graph=True)[0] for j in range(seen.shape[1])]
        gain = level * torch.stack(slopes, 1)  # C AT, (B, m, ...)
        inner = torch.stack([operator(column) for column in gain.unbind(1)], 1)
        inner = (inner + inner.mT) / 2 + sigma**2 * torch.eye(inner.shape[1]).to(inner)
        weight = torch.linalg.solve(inner, y - seen)
        return clean + torch.einsum("bm,bm...->b...", weight, gain), torch.zeros_like(x)


class DPS(GuidedDiffusion):
    """Ancestral steps, each followed by -zeta grad ||y - A E[x_0 | x_t]|| in x_t; it takes no account of sigma.

    Diffusion posterior sampling (Chung et al., 2023, algorithm 1 and appendix C), https://arxiv.org/abs/2209.14687

    Args:
        zeta: the step of the gradient, > 0.
        steps, variance: those of GuidedDiffusion.
    """

    name = "DPS"

    def __init__(self, steps: Count = 250, zeta: Positive = 1.0, variance: Literal["small", "large"] = "large") -> None:
        super().__init__(steps, variance)
        self.zeta = zeta

    def guided(
        self, x: Tensor, clean: Tensor, y: Tensor, operator: Operator, sigma: float, level: float
    ) -> tuple[Tensor, Tensor]:
        """E[x_0 | x_t], and the gradient step."""
        (slope,) = torch.autograd.grad((y - operator(clean)).norm(dim=1).sum(), x)
        return clean, -self.zeta * slope


class LatentPosterior(Answer):
    """z ~ p(z|y) for x = E[x|z], by a chain over z; samples are E[x|z]. Exact for a generator.

    Args:
        sampler: MALA or HMC over z; null for 1,000 steps of MALA.
    """

    name = "MALA over z"
    needs = (LatentVariables,)
    supports = ("real",)

    def __init__(self, sampler: MALA | HMC | None = None) -> None:
        self.sampler = MALA(1000, 1e-2) if sampler is None else sampler

    def __call__(
        self,
        model: LatentVariables,
        like: Tensor,
        y: Tensor,
        operator: Operator,
        sigma: float,
        generator: torch.Generator,
    ) -> Tensor:
        """The end of a chain, like x."""
        z = noise_like(like.new_empty(len(like), model.latent), generator)
        return model.visible(metropolis(self.sampler, LatentEnergy(model, y, operator, sigma), z, generator))


SOLVERS = (PosteriorMetropolis(), MomentMatching(), DPS(), PosteriorLangevin(), LatentPosterior())

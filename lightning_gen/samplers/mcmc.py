"""Markov chain Monte Carlo: the base of the chains, Langevin and annealed Langevin.

The overdamped Langevin diffusion dx = s dt + sqrt(2) dw leaves p invariant; a step of size eta is
x + eta s(x) + sqrt(2 eta) z. Its stationary distribution is biased: for N(0, 1) its variance is 1 / (1 - eta / 2).
"""

import math
from collections.abc import Sequence
from typing import Literal, Self

import torch
from torch import Tensor

from lightning_gen.models import Model, Scored
from lightning_gen.options import Count, Positive, UnitInterval
from lightning_gen.process import Process
from lightning_gen.randomness import Source, normal, uniform
from lightning_gen.samplers.base import AffineSteps, Denoising, Stepwise, Transition, with_readings
from lightning_gen.samplers.grids import noisy

Start = Literal["normal", "uniform", "prior"]


class MarkovChain(Stepwise):
    """Base of the chains: the distribution of their start.

    Args:
        start: normal, N(0, spread^2 I); uniform on [-spread, spread]; or prior, the model's.
        spread: scale of a normal or uniform start, in units of the data, > 0.
    """

    def __init__(self, start: Start, spread: Positive) -> None:
        self.start_law, self.spread = start, float(spread)

    def start(self, model: Model, shape: tuple[int, ...], generator: Source = None) -> Tensor:
        """A draw of the start, `shape` = (B, ...)."""
        if self.start_law == "prior":
            return model.prior(shape, generator)
        if self.start_law == "normal":
            return self.spread * normal(shape, generator)
        return self.spread * (2 * uniform(shape, generator) - 1)

    def log_start(self, x: Tensor) -> Tensor:
        """Log-density of the start at x up to a constant, nats, (B,): -inf outside of a uniform one's support."""
        rows = x.flatten(1)
        if self.start_law == "normal":
            return -0.5 * rows.square().sum(1) / self.spread**2
        inside = (rows.abs() <= self.spread).all(1)
        return torch.where(inside, 0.0, -math.inf).to(x.dtype)

    def check(self, model: Model) -> None:
        """TypeError for a model that does not fit; ValueError for the start prior of a model without one."""
        super().check(model)
        if self.start_law == "prior" and (reason := model.why_no_prior()):
            raise ValueError(f"sampler.start is prior, but {reason}: choose normal or uniform")


class Langevin(MarkovChain, AffineSteps):
    """Unadjusted Langevin x + eta s_t(x) + sqrt(2 eta T) z towards p_t^(1/T), at one time t of the process.

    Exponential convergence of Langevin distributions (Roberts & Tweedie, 1996), https://doi.org/10.2307/3318418

    Args:
        steps: number of steps, >= 1.
        step_size: eta or epsilon, in squared units of the data, > 0.
        convention: what step_size is: `eta`, or `epsilon` = 2 eta as in the papers of Song et al.
        t: time of the density p_t, in [0, 1]; 0 is the data's, or that at the smallest noise level.
        denoise: whether a last step removes the noise of sigma(t) by Tweedie's formula.
        start, spread: those of MarkovChain.
        temperature: T, > 0.
    """

    needs = (Scored,)
    supports = ("real",)
    independent = True

    def __init__(
        self,
        steps: Count = 1000,
        step_size: Positive = 1e-3,
        convention: Literal["eta", "epsilon"] = "eta",
        t: UnitInterval = 0.0,
        denoise: bool = False,
        start: Start = "normal",
        spread: Positive = 1.0,
        temperature: Positive = 1.0,
    ) -> None:
        super().__init__(start, spread)
        self.steps, self.step_size, self.convention, self.t, self.denoise = steps, step_size, convention, t, denoise
        self.temperature = temperature

    def check(self, model: Scored) -> None:
        """ValueError for denoising without noise, and for a time at which a noising process has no noise."""
        super().check(model)
        now, last = model.process.sigma(torch.tensor([self.t, 1.0], dtype=torch.float64)).tolist()
        if now == 0 and last > 0:
            name = type(model.process).__name__
            raise ValueError(f"sampler.t is {self.t}, where {name} has no noise: give a time above 0, such as 1e-3")
        if self.denoise and now == 0:
            raise ValueError("sampler.denoise is true, but the model is of data without noise: write false")

    def plan(self, model: Scored, shape: tuple[int, ...]) -> list[Transition]:
        """The transitions, with the factors of x, of the score and of new noise, the same in every step."""
        eta = self.step_size if self.convention == "eta" else self.step_size / 2
        move = Transition(self.t, self.t, (1.0, eta, math.sqrt(2 * eta * self.temperature)))
        move, last = with_readings(model, [move, Denoising(self.t, self.t)])
        return [move] * self.steps + [last] * self.denoise


class AnnealedLangevin(MarkovChain, AffineSteps):
    """`steps_each` Langevin steps at each of L geometric levels of a VE, from the largest; then one denoising step.

    At level sigma_i the step size is alpha_i = epsilon sigma_i^2 / sigma_L^2.
    NCSN (Song & Ermon, 2019), https://arxiv.org/abs/1907.05600; NCSNv2 (2020), https://arxiv.org/abs/2006.09011

    Args:
        levels: number of levels L, >= 1; null for that of the model's training.
        steps_each: steps at each level, >= 1.
        step_rule: `v1`, x + (alpha_i / 2) s + sqrt(alpha_i) z, is the first paper's algorithm 1; `v1_code`, its code's
            x + alpha_i s + sqrt(2 alpha_i) z, has twice the step; `technique4` is `v1_code` with epsilon optional.
        epsilon: step size at sigma_L, in squared units of the data, > 0; null (technique4 only) for the one whose
            variance after each level is closest to sigma_i^2.
        denoise: whether a last step removes the noise of sigma_L by Tweedie's formula.
        start, spread: those of MarkovChain.
    """

    needs = (Scored,)
    supports = ("real",)
    independent = True

    def __init__(
        self,
        levels: Count | None = None,
        steps_each: Count = 5,
        step_rule: Literal["v1", "v1_code", "technique4"] = "technique4",
        epsilon: Positive | None = None,
        denoise: bool = True,
        start: Start = "prior",
        spread: Positive = 1.0,
    ) -> None:
        if epsilon is None and step_rule != "technique4":
            raise ValueError(
                f"sampler.epsilon is null, expected a number for step_rule {step_rule}: give one, such as NCSN's 2e-5"
            )
        super().__init__(start, spread)
        self.levels, self.steps_each, self.step_rule = levels, steps_each, step_rule
        self.epsilon, self.denoise = epsilon, denoise

    def check(self, model: Scored) -> None:
        """TypeError for a process that scales the data, or has no smallest noise level."""
        super().check(model)
        if float(model.process.alpha(torch.ones((), dtype=torch.float64))) != 1 or not noisy(model.process, 0.0):
            raise TypeError(
                f"sampler AnnealedLangevin needs levels sigma_1 > ... > sigma_L > 0 of a VE with start sigma_min, "
                f"got {type(model.process).__name__}: choose predictor_corrector"
            )

    def plan(self, model: Scored, shape: tuple[int, ...]) -> list[Transition]:
        """The transitions of all levels, with the factors of x, of the score and of new noise."""
        return with_readings(model, self.transitions(model.process))

    def with_steps(self, steps: int) -> Self:
        """A copy that takes `steps` steps at each level."""
        return self.with_options(steps_each=steps)

    def transitions(self, process: Process) -> list[Transition]:
        """The transitions without the model's scalars."""
        count = self.levels or process.levels
        if count is None:
            raise ValueError("sampler.levels is null, but the model was trained on all noise levels: give their number")
        times = [1 - i / max(count - 1, 1) for i in range(count)]
        sigmas = process.sigma(torch.tensor(times, dtype=torch.float64)).tolist()
        epsilon = self.epsilon
        if epsilon is None:
            if sigmas[0] == sigmas[-1]:
                raise ValueError("sampler.epsilon is null, expected a number for technique4 with one level: give one")
            epsilon = technique4(sigmas[-1], sigmas[0] / sigmas[1], self.steps_each)
        plan = []
        for t, sigma in zip(times, sigmas, strict=True):
            size = epsilon * (sigma / sigmas[-1]) ** 2
            drift, variance = (size / 2, size) if self.step_rule == "v1" else (size, 2 * size)
            plan += [Transition(t, t, (1.0, drift, math.sqrt(variance)))] * self.steps_each
        return plan + [Denoising(times[-1], 0.0)] * self.denoise


def technique4(sigma: float, ratio: float, steps: int) -> float:
    """epsilon at which `steps` steps from variance ratio^2 sigma_i^2 end at a variance closest to sigma_i^2.

    NCSNv2 (Song & Ermon, 2020, proposition 3), https://arxiv.org/abs/2006.09011
    """

    def final_variance(u: float) -> float:
        stationary = 1 / (1 - u / 2)
        return (1 - u) ** (2 * steps) * (ratio**2 - stationary) + stationary

    candidates: Sequence[float] = torch.logspace(-6, 0, 20001, dtype=torch.float64).tolist()
    return sigma**2 * min(candidates, key=lambda u: abs(final_variance(u) - 1))

"""The probability-flow ODE in the variables x / alpha and sigma / alpha, and its solvers.

dx = [f x - 1/2 g^2 s] dt has the marginals of the SDE. With y = x / alpha and lambda = sigma / alpha it is
dy / dlambda = E[noise | x_t], for every process, and regular at lambda = 0.
Score SDE (Song et al., 2021, eq. 13), https://arxiv.org/abs/2011.13456; EDM (Karras et al., 2022, eq. 4)
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from lightning_gen.models import Scored
from lightning_gen.models.score import combine
from lightning_gen.options import Count, NonNegative, Positive, Rate
from lightning_gen.process import Process
from lightning_gen.randomness import Source, noise_like
from lightning_gen.samplers.base import StepwiseDiffusion, Transition
from lightning_gen.samplers.diffusion import Posterior
from lightning_gen.samplers.grids import RHO, Spacing, grid, level


class ProbabilityFlow(StepwiseDiffusion):
    """y_s = y_t + (lambda_s - lambda_t) times a weighted mean of slopes E[noise | x], by a Runge-Kutta method.

    The last step, to lambda = 0, is Euler's for all methods, since the slope is not defined there: it gives E[x_0 | x].
    Score SDE (Song et al., 2021, eq. 13), https://arxiv.org/abs/2011.13456; EDM (Karras et al., 2022, algorithm 1)

    Args:
        steps: number of steps, >= 1; null for all T of a discrete process.
        method: euler (DDIM's step), heun (second order, EDM's algorithm 1) or rk4 (fourth order).
        spacing, t_end: those of `grid`.
        denoise: whether to take the last step; if not, samples keep the noise of the last time.
    """

    def __init__(
        self,
        steps: Count | None = 18,
        method: Literal["euler", "heun", "rk4"] = "heun",
        spacing: Spacing = "karras",
        t_end: Rate | None = None,
        denoise: bool = True,
    ) -> None:
        self.steps, self.method, self.spacing, self.t_end, self.denoise = steps, method, spacing, t_end, denoise

    @property
    def word(self) -> str:
        """The method, as sampler=heun names it."""
        return self.method

    def transitions(self, process: Process) -> list[Transition]:
        """The transitions, with (alpha_t, lambda_t, alpha_s, lambda_s), and for rk4 alpha at the midpoint."""
        rows = self.moments(process)
        plan = []
        for t, s, (alpha_t, sigma_t, alpha_s, sigma_s, _, _) in rows if self.denoise else rows[:-1]:
            row = (alpha_t, sigma_t / alpha_t, alpha_s, sigma_s / alpha_s)
            if sigma_s == 0 or self.method == "euler":
                plan.append(Transition(t, s, row))
            elif self.method == "heun":
                plan.append(Transition(t, s, row, 2, (t, s)))
            else:
                middle = (row[1] + row[3]) / 2
                time = process.time(torch.tensor(middle**-2, dtype=torch.float64))
                times = (t, float(time), float(time), s)
                plan.append(Transition(t, s, (*row, float(process.alpha(time))), 4, times))
        return plan

    def step(
        self, model: Scored, x: Tensor, transition: Transition, carry: None, generator: Source
    ) -> tuple[Tensor, None]:
        """x_s from x_t, (B, ...), deterministic."""
        return flow_step(model, x, transition), None


# Explicit Runge-Kutta methods by their number of evaluations: the weights of each inner stage, and of the result.
RULES: dict[int, tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]] = {
    1: ((), (1.0,)),
    2: (((1.0,),), (0.5, 0.5)),
    4: (((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}


def flow_step(model: Scored, x: Tensor, transition: Transition) -> Tensor:
    """x_s by the Runge-Kutta method with the transition's number of evaluations, (B, ...).

    The slopes of y = x / alpha are E[noise | x] = a x + b F, so every stage is a sum of x and of the outputs F so far,
    with factors that are added on the host. So each product is rounded once: y itself may be 150 times x.
    """
    alpha_t, level_t, alpha_s, level_s, *middle = transition.coefficients
    h, (stages, weights) = level_s - level_t, RULES[transition.evaluations]
    tensors, slopes = [x], []  # slopes and stages are lists of factors of these tensors

    def stage(alpha: float, weights: Sequence[float]) -> list[float]:
        """Factors of alpha (x / alpha_t + h sum_i weight_i slope_i)."""
        factors = [alpha / alpha_t] + [0.0] * (len(tensors) - 1)
        for weight, slope in zip(weights, slopes, strict=False):
            for i, factor in enumerate(slope):
                factors[i] += alpha * h * weight * factor
        return factors

    factors = [1.0]
    for number, reading in enumerate(transition.readings):
        if number:
            factors = stage([*middle, *middle, alpha_s][number - 1], stages[number - 1])
        a, b = reading.noise
        tensors.append(model.output(combine(*zip(factors, tensors, strict=False)) if number else x, reading))
        slopes.append([a * factor for factor in factors] + [0.0] * (len(tensors) - 1 - len(factors)) + [b])
    return combine(*zip(stage(alpha_s, weights), tensors, strict=True))


class DPMSolver(Posterior):
    """DPM-Solver++ (2M): with l = log(alpha / sigma), h = l_s - l_t, u the time before t and r = (l_t - l_u) / h,

    x_s = (sigma_s / sigma_t) x_t + alpha_s (1 - e^-h) [(1 + 1 / 2r) x_0(t) - (1 / 2r) x_0(u)].

    The first step and the last, to sigma = 0, are of first order, as DDIM's.
    DPM-Solver++ (Lu et al., 2022, algorithm 2), https://arxiv.org/abs/2211.01095

    Args:
        steps: number of steps, a rising list of k in 1..T, or null for all T of a discrete process.
        spacing, t_end: those of `grid`.
        clip: [low, high] to which E[x_0 | x_t] is clipped, in units of the data; null for none.
        denoise: whether to take the last step; if not, samples keep the noise of the last time.
    """

    divides = True

    def __init__(
        self,
        steps: Count | Sequence[Count] | None = 20,
        spacing: Spacing = "log_snr",
        t_end: Rate | None = None,
        clip: Sequence[float] | None = None,
        denoise: bool = True,
    ) -> None:
        super().__init__(clip)
        self.steps, self.spacing, self.t_end, self.denoise = steps, spacing, t_end, denoise

    def transitions(self, process: Process) -> list[Transition]:
        """The transitions, with the factors of x_t, x_0(t) and x_0(u)."""
        plan, previous = [], None
        rows = self.moments(process)
        for t, s, (alpha_t, sigma_t, alpha_s, sigma_s, _, _) in rows if self.denoise else rows[:-1]:
            pull, extra = alpha_s - sigma_s * alpha_t / sigma_t, 0.0
            current = math.log(alpha_t / sigma_t)
            if previous is not None and sigma_s > 0:
                extra = (math.log(alpha_s / sigma_s) - current) / (current - previous) / 2
            plan.append(Transition(t, s, (sigma_s / sigma_t, pull * (1 + extra), -pull * extra)))
            previous = current
        return plan

    def step(
        self, model: Scored, x: Tensor, transition: Transition, carry: Any, generator: Source
    ) -> tuple[Tensor, Tensor]:
        """x_s, (B, ...), and x_0(t) for the next step."""
        keep, pull, past = transition.coefficients
        clean = self.clean(model, x, transition)
        return combine((keep, x), (pull, clean), *([(past, carry)] if past else [])), clean


class EDMHeun(StepwiseDiffusion):
    """EDM's stochastic sampler: add noise up to the level lambda (1 + gamma), then take one Heun step down.

    gamma = min(s_churn / steps, sqrt(2) - 1) at levels in [s_min, s_max], else 0. On a discrete process the raised
    level is rounded to that of the nearest k / T, as in the paper's appendix on published networks.
    EDM (Karras et al., 2022, algorithm 2), https://arxiv.org/abs/2206.00364

    Args:
        steps: number of steps, >= 2.
        s_churn: amount of added noise, >= 0; 0 is deterministic.
        s_min: lowest level lambda at which noise is added, in units of the data, >= 0.
        s_max: highest level at which noise is added, above s_min.
        s_noise: factor of the standard deviation of the added noise, > 0.
        rho: exponent of the spacing of the levels, > 0.
        t_end: last time with noise of a continuous process, in [0, 1); null for the default of `grid`.
    """

    def __init__(
        self,
        steps: Annotated[int, Ge(2)] = 18,
        s_churn: NonNegative = 0.0,
        s_min: NonNegative = 0.0,
        s_max: Annotated[float, Gt(0)] = math.inf,
        s_noise: Positive = 1.0,
        rho: Positive = RHO,
        t_end: Rate | None = None,
    ) -> None:
        if not s_min < s_max:
            raise ValueError(f"EDMHeun.s_min is {s_min}, expected below s_max = {s_max}: lower it")
        self.steps, self.s_churn, self.s_min, self.s_max = steps, s_churn, s_min, s_max
        self.s_noise, self.rho, self.t_end = s_noise, rho, t_end

    def times(self, process: Process) -> list[float]:
        """The times of levels spaced by rho, and 0.0."""
        return grid(process, self.steps, "karras", self.t_end, self.rho)

    def transitions(self, process: Process) -> list[Transition]:
        """The transitions, with (alpha, lambda) raised and at s, and the factors of x and of the added noise."""
        plan, rows = [], self.moments(process)
        for t, s, (alpha_t, sigma_t, alpha_s, sigma_s, _, _) in rows:
            current = sigma_t / alpha_t
            gamma = min(self.s_churn / len(rows), math.sqrt(2) - 1) if self.s_min <= current <= self.s_max else 0.0
            raised, alpha, noise = current, alpha_t, 0.0
            if gamma > 0:
                t, alpha, raised = self.raised(process, current * (1 + gamma))
                noise = math.sqrt(max(raised**2 - current**2, 0.0)) * self.s_noise
            row = (alpha, raised, alpha_s, sigma_s / alpha_s, alpha / alpha_t, alpha * noise)
            times = (t,) if sigma_s == 0 else (t, s)
            plan.append(Transition(t, s, row, len(times), times))
        return plan

    def raised(self, process: Process, target: float) -> tuple[float, float, float]:
        """Time, alpha and level closest to the target level; ValueError where the process does not reach it."""
        try:
            t = process.time(torch.tensor(target**-2, dtype=torch.float64))
        except ValueError as error:
            raise ValueError(
                f"sampler.s_churn is {self.s_churn} and raises the noise level to {target:.4g}, above the largest of "
                f"{type(process).__name__}: lower sampler.s_churn, or sampler.s_max"
            ) from error
        if process.steps is None:
            return float(t), float(process.alpha(t)), target
        t = (t * process.steps).round() / process.steps
        return float(t), float(process.alpha(t)), float(level(process, t))

    def step(
        self, model: Scored, x: Tensor, transition: Transition, carry: None, generator: Source
    ) -> tuple[Tensor, None]:
        """x_s from x_t by added noise and a Heun step, (B, ...)."""
        *row, keep, noise = transition.coefficients
        if noise > 0:
            x = combine((keep, x), (noise, noise_like(x, generator)))
        return flow_step(model, x, replace(transition, coefficients=tuple(row))), None

"""The probability-flow ODE, in the variables where it is simplest.

dx = [f x - 1/2 g^2 s] dt has the marginals of the SDE. With y = x / alpha and lambda = sigma / alpha it is
dy / dlambda = E[noise | x_t]: no process is left, and lambda = 0 is no singular point.
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
from lightning_gen.models.base import combine
from lightning_gen.options import Count, NonNegative, Positive, Rate
from lightning_gen.process import Process
from lightning_gen.randomness import Source
from lightning_gen.samplers.base import StepwiseDiffusion, Transition, noise_like
from lightning_gen.samplers.diffusion import Posterior
from lightning_gen.samplers.grids import RHO, Spacing, grid, level


class ProbabilityFlow(StepwiseDiffusion):
    """y_s = y_t + (lambda_s - lambda_t) times a mean of slopes: euler (DDIM's step), heun (EDM's algorithm 1), or rk4.

    The last step, to lambda = 0, is Euler's for all, since there the noise has no slope: it is the model's x_0. Without
    `denoise` the path ends at the last time with noise.
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

    def transitions(self, process: Process) -> list[Transition]:
        """t, s: (alpha_t, lambda_t, alpha_s, lambda_s), and for rk4 alpha in the middle."""
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
        """x_s, (B, ...); no random number is used."""
        return flow_step(model, x, transition), None


# Explicit rules by their number of evaluations: shares of earlier slopes at each inner point, and of all at the end.
RULES: dict[int, tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]] = {
    1: ((), (1.0,)),
    2: (((1.0,),), (0.5, 0.5)),
    4: (((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}


def flow_step(model: Scored, x: Tensor, transition: Transition) -> Tensor:
    """One step by Euler, Heun or the classical Runge-Kutta rule, as the transition's evaluations say, (B, ...).

    y = x / alpha moves by h times a mean of slopes, each E[noise | x] = a x + b F. Every point on the way is a sum of x
    and of the outputs F so far, whose factors add up on the host: a product is rounded once, where y is 150 times x if
    alpha is small.
    """
    alpha_t, level_t, alpha_s, level_s, *middle = transition.coefficients
    h, (inner, weights) = level_s - level_t, RULES[transition.evaluations]
    tensors, slopes = [x], []  # a slope, and a point, is a list of factors of these tensors

    def point(alpha: float, shares: Sequence[float]) -> list[float]:
        """alpha (x / alpha_t + h sum_i share_i slope_i)."""
        factors = [alpha / alpha_t] + [0.0] * (len(tensors) - 1)
        for share, slope in zip(shares, slopes, strict=False):
            for place, factor in enumerate(slope):
                factors[place] += alpha * h * share * factor
        return factors

    at = [1.0]
    for number, reading in enumerate(transition.readings):
        if number:
            at = point([*middle, *middle, alpha_s][number - 1], inner[number - 1])
        a, b = reading.noise
        tensors.append(model.output(combine(*zip(at, tensors, strict=False)) if number else x, reading))
        slopes.append([a * factor for factor in at] + [0.0] * (len(tensors) - 1 - len(at)) + [b])
    return combine(*zip(point(alpha_s, weights), tensors, strict=True))


class DPMSolver(Posterior):
    """DPM-Solver++ (2M): with l = log(alpha / sigma), h = l_s - l_t and r = (l_t - l_before) / h,

    x_s = (sigma_s / sigma_t) x_t + alpha_s (1 - e^-h) [(1 + 1 / 2r) x_0(t) - (1 / 2r) x_0(before)].

    The first step and the last, to the noise-free end, are of first order: DDIM's.
    DPM-Solver++ (Lu et al., 2022, algorithm 2), https://arxiv.org/abs/2211.01095
    """

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
        """The factors of x_t, of x_0(t) and of x_0(before)."""
        plan, before = [], None
        rows = self.moments(process)
        for t, s, (alpha_t, sigma_t, alpha_s, sigma_s, _, _) in rows if self.denoise else rows[:-1]:
            pull, extra = alpha_s - sigma_s * alpha_t / sigma_t, 0.0
            now = math.log(alpha_t / sigma_t)
            if before is not None and sigma_s > 0:
                extra = (math.log(alpha_s / sigma_s) - now) / (now - before) / 2
            plan.append(Transition(t, s, (sigma_s / sigma_t, pull * (1 + extra), -pull * extra)))
            before = now
        return plan

    def step(
        self, model: Scored, x: Tensor, transition: Transition, carry: Any, generator: Source
    ) -> tuple[Tensor, Tensor]:
        """x_s, (B, ...), and x_0(t) for the next step."""
        keep, pull, past = transition.coefficients
        clean = self.clean(model, x, transition)
        return combine((keep, x), (pull, clean), *([(past, carry)] if past else [])), clean


class EDMHeun(StepwiseDiffusion):
    """EDM's stochastic sampler: noise is added up to the level lambda (1 + gamma), then one Heun step is made down.

    gamma = min(s_churn / steps, sqrt(2) - 1) at levels in [s_min, s_max], else 0; s_noise scales the noise added.
    Levels are spaced by rho. s_churn = 0 is the deterministic Heun. On a discrete process the raised level is rounded
    to the nearest of its times, as the paper does for published networks.
    EDM (Karras et al., 2022, algorithm 2), https://arxiv.org/abs/2206.00364
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
            raise ValueError(f"EDMHeun.s_min is {s_min}, expected below s_max, which is {s_max}: lower it")
        self.steps, self.s_churn, self.s_min, self.s_max = steps, s_churn, s_min, s_max
        self.s_noise, self.rho, self.t_end = s_noise, rho, t_end

    def times(self, process: Process) -> list[float]:
        """The grid by noise levels."""
        return grid(process, self.steps, "karras", self.t_end, self.rho)

    def transitions(self, process: Process) -> list[Transition]:
        """Heun's coefficients from the raised level, then the factors of x and of the noise that raise it."""
        plan, rows = [], self.moments(process)
        for t, s, (alpha_t, sigma_t, alpha_s, sigma_s, _, _) in rows:
            now = sigma_t / alpha_t
            gamma = min(self.s_churn / len(rows), math.sqrt(2) - 1) if self.s_min <= now <= self.s_max else 0.0
            raised, alpha, noise = now, alpha_t, 0.0
            if gamma > 0:
                t, alpha, raised = self.raised(process, now * (1 + gamma))
                noise = math.sqrt(max(raised**2 - now**2, 0.0)) * self.s_noise
            row = (alpha, raised, alpha_s, sigma_s / alpha_s, alpha / alpha_t, alpha * noise)
            times = (t,) if sigma_s == 0 else (t, s)
            plan.append(Transition(t, s, row, len(times), times))
        return plan

    def raised(self, process: Process, goal: float) -> tuple[float, float, float]:
        """Time, alpha and level nearest to a raised level; ValueError where the process has none."""
        try:
            t = process.time(torch.tensor(goal**-2, dtype=torch.float64))
        except ValueError as error:
            raise ValueError(
                f"s_churn = {self.s_churn} raises the noise to {goal:.4g}, above the process' largest: "
                "lower sampler.s_churn, or sampler.s_max"
            ) from error
        if process.steps is None:
            return float(t), float(process.alpha(t)), goal
        t = (t * process.steps).round() / process.steps
        return float(t), float(process.alpha(t)), float(level(process, t))

    def step(
        self, model: Scored, x: Tensor, transition: Transition, carry: None, generator: Source
    ) -> tuple[Tensor, None]:
        """Noise added, then Heun, (B, ...)."""
        *row, keep, noise = transition.coefficients
        if noise > 0:
            x = combine((keep, x), (noise, noise_like(x, generator)))
        return flow_step(model, x, replace(transition, coefficients=tuple(row))), None

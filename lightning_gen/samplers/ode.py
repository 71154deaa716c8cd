"""The probability-flow ODE, in the variables where it is simplest.

dx = [f x - 1/2 g^2 s] dt has the marginals of the SDE. With y = x / alpha and lambda = sigma / alpha it is
dy / dlambda = E[noise | x_t]: no process is left, and lambda = 0 is no singular point.
Score SDE (Song et al., 2021, eq. 13), https://arxiv.org/abs/2011.13456; EDM (Karras et al., 2022, eq. 4)
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_gen.models import ScoreModel
from lightning_gen.models.score import instant
from lightning_gen.process import Process
from lightning_gen.samplers.base import ReverseDiffusion, Transition, noise_like
from lightning_gen.samplers.diffusion import Posterior
from lightning_gen.samplers.grids import RHO, Spacing, grid, level


class ProbabilityFlow(ReverseDiffusion):
    """y_s = y_t + (lambda_s - lambda_t) times a mean of slopes: euler (DDIM's step), heun (EDM's algorithm 1), or rk4.

    The last step, to lambda = 0, is Euler's for all, since there the noise has no slope: it is the model's x_0. Without
    `denoise` the path ends at the last time with noise.
    """

    def __init__(
        self,
        steps: int | None = 18,
        method: Literal["euler", "heun", "rk4"] = "heun",
        spacing: Spacing = "karras",
        t_end: float | None = None,
        denoise: bool = True,
    ) -> None:
        if method not in ("euler", "heun", "rk4"):
            raise ValueError(f"ProbabilityFlow needs method euler, heun or rk4, got {method}")
        self.steps, self.method, self.spacing, self.t_end, self.denoise = steps, method, spacing, t_end, denoise

    def plan(self, process: Process) -> list[Transition]:
        """t, s: (alpha_t, lambda_t, alpha_s, lambda_s), and for rk4 (time, alpha, lambda) of the middle."""
        rows = self.moments(process)
        plan = []
        for t, s, (alpha_t, sigma_t, alpha_s, sigma_s, _, _) in rows if self.denoise else rows[:-1]:
            row = (alpha_t, sigma_t / alpha_t, alpha_s, sigma_s / alpha_s)
            if sigma_s == 0 or self.method == "euler":
                plan.append(Transition(t, s, row))
            elif self.method == "heun":
                plan.append(Transition(t, s, row, 2))
            else:
                middle = (row[1] + row[3]) / 2
                time = process.time(torch.tensor(middle**-2, dtype=torch.float64))
                plan.append(Transition(t, s, (*row, float(time), float(process.alpha(time)), middle), 4))
        return plan

    def step(
        self, model: ScoreModel, x: Tensor, transition: Transition, carry: None, generator: torch.Generator | None
    ) -> tuple[Tensor, None]:
        """x_s, (B, ...); no random number is used."""
        return flow_step(model, x, transition), None


def flow_step(model: ScoreModel, x: Tensor, transition: Transition) -> Tensor:
    """One step by Euler, Heun or the classical Runge-Kutta rule, as the transition's evaluations say, (B, ...)."""
    alpha_t, level_t, alpha_s, level_s, *middle = transition.coefficients
    h = level_s - level_t

    def at(slope: Tensor, share: float, alpha: float) -> Tensor:
        # alpha (y + share h slope), combined before it is rounded: y is 150 times x where alpha is small
        return (alpha / alpha_t) * x + (alpha * share * h) * slope

    def slope_at(place: Tensor, t: float) -> Tensor:
        return model.noise(place, instant(t, place))

    first = slope_at(x, transition.t)
    if transition.evaluations == 1:
        return at(first, 1, alpha_s)
    if transition.evaluations == 2:
        return at((first + slope_at(at(first, 1, alpha_s), transition.s)) / 2, 1, alpha_s)
    time, alpha, _ = middle
    second = slope_at(at(first, 0.5, alpha), time)
    third = slope_at(at(second, 0.5, alpha), time)
    fourth = slope_at(at(third, 1, alpha_s), transition.s)
    return at((first + 2 * second + 2 * third + fourth) / 6, 1, alpha_s)


class DPMSolver(Posterior):
    """DPM-Solver++ (2M): with l = log(alpha / sigma), h = l_s - l_t and r = (l_t - l_before) / h,

    x_s = (sigma_s / sigma_t) x_t + alpha_s (1 - e^-h) [(1 + 1 / 2r) x_0(t) - (1 / 2r) x_0(before)].

    The first step and the last, to the noise-free end, are of first order: DDIM's.
    DPM-Solver++ (Lu et al., 2022, algorithm 2), https://arxiv.org/abs/2211.01095
    """

    def __init__(
        self,
        steps: int | Sequence[int] | None = 20,
        spacing: Spacing = "log_snr",
        t_end: float | None = None,
        clip: Sequence[float] | None = None,
        denoise: bool = True,
    ) -> None:
        super().__init__(clip)
        self.steps, self.spacing, self.t_end, self.denoise = steps, spacing, t_end, denoise

    def plan(self, process: Process) -> list[Transition]:
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
        self, model: ScoreModel, x: Tensor, transition: Transition, carry: Any, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """x_s, (B, ...), and x_0(t) for the next step."""
        keep, pull, past = transition.coefficients
        clean = self.clean(model, x, transition.t)
        x = keep * x + pull * clean
        return (x if past == 0 else x + past * carry), clean


class EDMHeun(ReverseDiffusion):
    """EDM's stochastic sampler: noise is added up to the level lambda (1 + gamma), then one Heun step is made down.

    gamma = min(s_churn / steps, sqrt(2) - 1) at levels in [s_min, s_max], else 0; s_noise scales the noise added.
    Levels are spaced by rho. s_churn = 0 is the deterministic Heun. On a discrete process the raised level is rounded
    to the nearest of its times, as the paper does for published networks.
    EDM (Karras et al., 2022, algorithm 2), https://arxiv.org/abs/2206.00364
    """

    def __init__(
        self,
        steps: int = 18,
        s_churn: float = 0.0,
        s_min: float = 0.0,
        s_max: float = math.inf,
        s_noise: float = 1.0,
        rho: float = RHO,
        t_end: float | None = None,
    ) -> None:
        if steps < 2 or s_churn < 0 or not 0 <= s_min < s_max or not s_noise > 0 or not rho > 0:
            raise ValueError(
                f"EDMHeun needs steps >= 2, s_churn >= 0, 0 <= s_min < s_max, s_noise > 0, rho > 0, "
                f"got {steps}, {s_churn}, {s_min}, {s_max}, {s_noise}, {rho}"
            )
        self.steps, self.s_churn, self.s_min, self.s_max = steps, s_churn, s_min, s_max
        self.s_noise, self.rho, self.t_end = s_noise, rho, t_end

    def times(self, process: Process) -> list[float]:
        """The grid by noise levels."""
        return grid(process, self.steps, "karras", self.t_end, self.rho)

    def plan(self, process: Process) -> list[Transition]:
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
            plan.append(Transition(t, s, row, 1 if sigma_s == 0 else 2))
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
        self, model: ScoreModel, x: Tensor, transition: Transition, carry: None, generator: torch.Generator | None
    ) -> tuple[Tensor, None]:
        """Noise added, then Heun, (B, ...)."""
        *row, keep, noise = transition.coefficients
        if noise > 0:
            x = keep * x + noise * noise_like(x, generator)
        return flow_step(model, x, Transition(transition.t, transition.s, tuple(row), transition.evaluations)), None

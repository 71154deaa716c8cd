"""The probability-flow ODE in t itself: dx / dt = u(x, t), regular where alpha(1) = 0 and sigma / alpha is infinite."""

import math
from typing import Literal

import torch
from torch import Tensor

from lightning_gen.models import Scored
from lightning_gen.models.score import combine
from lightning_gen.options import Count
from lightning_gen.process import Process
from lightning_gen.randomness import Source
from lightning_gen.samplers.base import StepwiseDiffusion, Transition
from lightning_gen.samplers.ode import RULES

NODES: dict[int, tuple[float, ...]] = {1: (0.0,), 2: (0.0, 1.0), 4: (0.0, 0.5, 0.5, 1.0)}
EVALUATIONS = {"euler": 1, "heun": 2, "rk4": 4}


class FlowODE(StepwiseDiffusion):
    """dx / dt = u(x, t) = E[dx_t / dt | x_t = x] from t = 1 to 0 in equal steps, by a Runge-Kutta method.

    For x_t = (1 - t) x_0 + t noise one Euler step x_s = x_t + (s - t) u is DDIM's, and one from 1 to 0 is exact where
    paths are straight. Rectified flow (Liu et al., 2023, section 2), https://arxiv.org/abs/2209.03003

    Args:
        steps: number of steps, >= 1.
        method: euler (first order), heun (second) or rk4 (fourth).
    """

    divides = False

    def __init__(self, steps: Count = 50, method: Literal["euler", "heun", "rk4"] = "heun") -> None:
        self.steps, self.method = steps, method

    def check(self, model: Scored) -> None:
        """TypeError also for a model whose velocity is not finite at t = 0 and t = 1."""
        super().check(model)
        factors = [factor for reading in model.readings([0.0, 1.0]) for factor in reading.velocity]
        if not all(map(math.isfinite, factors)):
            raise TypeError(
                f"sampler FlowODE needs a velocity that is finite from t = 0 to 1, and that of "
                f"{type(model).__name__} with {type(model.process).__name__} is not: choose ProbabilityFlow or DDIM"
            )

    def times(self, process: Process) -> list[float]:
        """1 to 0 in equal steps."""
        return torch.linspace(1, 0, self.steps + 1, dtype=torch.float64).tolist()

    def transitions(self, process: Process) -> list[Transition]:
        """The transitions, with the times of the stages."""
        times, number = self.times(process), EVALUATIONS[self.method]
        return [
            Transition(t, s, (s - t,), number, tuple(t + node * (s - t) if node < 1 else s for node in NODES[number]))
            for t, s in zip(times[:-1], times[1:], strict=True)
        ]

    def step(
        self, model: Scored, x: Tensor, transition: Transition, carry: None, generator: Source
    ) -> tuple[Tensor, None]:
        """x_s from x_t, (B, ...), deterministic."""
        (h,), (stages, weights) = transition.coefficients, RULES[transition.evaluations]
        slopes: list[Tensor] = []
        for number, reading in enumerate(transition.readings):
            inner = stages[number - 1] if number else ()
            y = combine((1.0, x), *((h * weight, slope) for weight, slope in zip(inner, slopes, strict=True)))
            a, b = reading.velocity
            slopes.append(combine((a, y), (b, model.output(y, reading))))
        return combine((1.0, x), *((h * weight, slope) for weight, slope in zip(weights, slopes, strict=True))), None

"""Langevin on the conditionals of diffusion recovery likelihood, level by level."""

from typing import Any

import torch
from torch import Tensor

from lightning_gen.models import Model
from lightning_gen.models.recovery import RecoveryEnergy
from lightning_gen.options import Count, Positive
from lightning_gen.randomness import Source, noise_like
from lightning_gen.samplers.base import Stepwise, Transition


class TiltedLangevin(Stepwise):
    """From x_T ~ N(0, I), for k = T - 1..0: `steps` Langevin steps on p(y | x_{k+1}) from y = x_{k+1}; x_k = y / a_k.

    y + eta_k grad log p(y | x_{k+1}) + sqrt(2 eta_k) z, eta_k = step_size / (1 / v_k + 1 / b_k^2); then the mean of
    the data given x_0. At the true energies 1 / v_k + 1 / b_k^2 is the largest curvature.
    Learning energy-based models by diffusion recovery likelihood (Gao et al., 2021, algorithm 2),
    https://arxiv.org/abs/2012.08125

    Args:
        steps: Langevin steps of each level, >= 1.
        step_size: in units of the conditional's least variance, > 0; chains on the true energies are stable below 2.
    """

    needs = (RecoveryEnergy,)
    supports = ("real",)
    independent = True

    def __init__(self, steps: Count = 15, step_size: Positive = 0.2) -> None:
        self.steps, self.step_size = steps, step_size

    def coefficients(self, model: RecoveryEnergy) -> list[tuple[float, float, float]]:
        """(eta_k, eta_k / b_k^2, sqrt(2 eta_k)) of each level."""
        rows = []
        for a, v in zip(model.shrink, model.noise_variance, strict=True):
            b2 = 1 - a**2
            eta = self.step_size / (1 / v + 1 / b2)
            rows.append((eta, eta / b2, (2 * eta) ** 0.5))
        return rows

    def plan(self, model: RecoveryEnergy, shape: tuple[int, ...]) -> list[Transition]:
        """The transitions of all levels, of k, whether a level begins, a_k where it ends, else 1, and `coefficients`;
        then that to the data, without coefficients."""
        total, rows = model.process.steps, self.coefficients(model)
        transitions = [
            Transition(
                (k + 2) / total,
                (k + 1) / total,
                (k, i == 0, model.shrink[k] if i == self.steps - 1 else 1, *rows[k]),
            )
            for k in reversed(range(model.levels))
            for i in range(self.steps)
        ]
        return [*transitions, Transition(1 / total, 0.0)]

    def step(
        self, model: Model, x: Tensor, transition: Transition, carry: Tensor | None, generator: Source
    ) -> tuple[Tensor, Any]:
        """y, x_k after a level's last step, or the data, (B, ...), and the level's x_{k+1}."""
        if not transition.coefficients:
            return model.clean(x), None
        level, first, shrink, *coefficients = transition.coefficients
        anchor = x if first else carry
        k = torch.full((len(x),), level, device=x.device)
        y = self.move(model, x, anchor, k, coefficients, generator)
        return (y if shrink == 1 else y / shrink), anchor

    def move(
        self, model: RecoveryEnergy, y: Tensor, anchor: Tensor, k: Tensor, coefficients: Any, generator: Source
    ) -> Tensor:
        """y after a step on p(y | x_{k+1} = anchor) at levels k (B,), (B, ...); `coefficients` as factors of y."""
        eta, pull, deviation = coefficients
        return torch.lerp(y, anchor, pull) - eta * model.slope(y, k) + deviation * noise_like(y, generator)

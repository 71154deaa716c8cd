"""Langevin on the conditionals of diffusion recovery likelihood, level by level."""

import math
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

    y + eta grad log p(y | x_{k+1}) + sqrt(2 eta T) z, eta = step_size b_k^2, T the temperature.
    Learning energy-based models by diffusion recovery likelihood (Gao et al., 2021, algorithm 2),
    https://arxiv.org/abs/2012.08125

    Args:
        steps: Langevin steps of each level, >= 1.
        step_size: eta in units of b_k^2, > 0; the paper's is b^2 / 2 = 1e-4.
        temperature: T, > 0.
    """

    needs = (RecoveryEnergy,)
    supports = ("real",)
    independent = True

    def __init__(self, steps: Count = 30, step_size: Positive = 0.1, temperature: Positive = 1.0) -> None:
        self.steps, self.step_size, self.temperature = steps, step_size, temperature

    def plan(self, model: RecoveryEnergy, shape: tuple[int, ...]) -> list[Transition]:
        """The transitions of all levels: k, whether a level begins, eta, and a_k where it ends, else 1."""
        total = model.process.steps
        return [
            Transition(
                (k + 1) / total,
                k / total,
                (k, i == 0, self.step_size * (1 - model.shrink[k] ** 2), model.shrink[k] if i == self.steps - 1 else 1),
            )
            for k in reversed(range(total))
            for i in range(self.steps)
        ]

    def step(
        self, model: Model, x: Tensor, transition: Transition, carry: Tensor | None, generator: Source
    ) -> tuple[Tensor, Any]:
        """y, or x_k after a level's last step, (B, ...), and the level's x_{k+1}."""
        level, first, eta, shrink = transition.coefficients
        anchor = x if first else carry
        k = torch.full((len(x),), level, device=x.device)
        y = self.move(model, x, anchor, k, eta, math.sqrt(2 * eta * self.temperature), generator)
        return (y if shrink == 1 else y / shrink), anchor

    def move(
        self,
        model: RecoveryEnergy,
        y: Tensor,
        anchor: Tensor,
        k: Tensor,
        eta: Tensor | float,
        deviation: Tensor | float,
        generator: Source,
    ) -> Tensor:
        """y after one step on p(y | x_{k+1} = anchor) at levels k (B,), (B, ...); eta / b_k^2 is step_size."""
        drifted = torch.lerp(y, anchor, self.step_size) - eta * model.slope(y, k)
        return drifted + deviation * noise_like(y, generator)

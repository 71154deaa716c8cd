"""Reverse-time SDEs: Euler-Maruyama, and the predictor-corrector pair.

dx = f_t x dt + g_t dw has the reverse dx = [f_t x - g_t^2 s_t(x)] dt + g_t dw (Anderson, 1982).
Score SDE (Song et al., 2021), https://arxiv.org/abs/2011.13456
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch
from annotated_types import Ge
from torch import Tensor

from lightning_gen.models import Scored
from lightning_gen.options import Count, Positive, Rate
from lightning_gen.process import Process
from lightning_gen.randomness import Source, noise_like
from lightning_gen.samplers.base import (
    AffineSteps,
    Denoising,
    ReverseDiffusion,
    Stepwise,
    StepwiseDiffusion,
    Transition,
    reading_of,
    with_readings,
)
from lightning_gen.samplers.grids import T_END, Spacing, grid, noisy


class EulerMaruyama(StepwiseDiffusion, AffineSteps):
    """x_s = x_t - [f_t x_t - g_t^2 s(x_t)] (t - s) + g_t sqrt(t - s) z over `steps` times, then Tweedie's formula.

    On a discrete process the times are k / T, and f and g^2 those of beta_k.
    Score SDE (Song et al., 2021, appendix D), https://arxiv.org/abs/2011.13456

    Args:
        steps: number of times with noise, >= 2.
        spacing: spacing of the times, see `grid`.
        t_end: last time with noise of a continuous process, in [0, 1); null for 0 where sigma(0) > 0, else 1e-3.
        denoise: whether a last step gives E[x_0 | x_t]; if not, samples keep the noise of t_end.
    """

    def __init__(
        self,
        steps: Annotated[int, Ge(2)] = 1000,
        spacing: Spacing = "trailing",
        t_end: Rate | None = None,
        denoise: bool = True,
    ) -> None:
        self.steps, self.spacing, self.t_end, self.denoise = steps, spacing, t_end, denoise

    def times(self, process: Process) -> list[float]:
        """The times from 1 to t_end, and 0.0."""
        t_end = self.t_end if self.t_end is not None or process.steps or noisy(process, 0.0) else T_END
        return grid(process, self.steps, self.spacing, t_end)

    def transitions(self, process: Process) -> list[Transition]:
        """The transitions, with the factors of x, of the score and of new noise, and the denoising step."""
        times = self.times(process)
        shift = 0.5 / process.steps if process.steps else 0.0  # f and g^2 jump at k / T: beta_k is theirs just below
        f, g2 = (c.tolist() for c in process.sde(torch.tensor(times[:-1], dtype=torch.float64) - shift))
        plan: list[Transition] = []
        for i, (t, s) in enumerate(zip(times[:-2], times[1:-1], strict=True)):
            row = (1 - f[i] * (t - s), g2[i] * (t - s), math.sqrt(g2[i] * (t - s)))
            plan.append(Transition(t, s, row))
        return plan + [Denoising(times[-2], 0.0)] * self.denoise


@dataclass(frozen=True)
class Correction(Transition):
    """A Langevin step at s = t with coefficient a = (alpha_t / alpha_u)^2, where u is the predictor's next time."""


class PredictorCorrector(ReverseDiffusion, Stepwise):
    """A predictor's steps, each but the last followed by Langevin steps x + eta s + sqrt(2 eta) z at the time s.

    eta = 2 a (snr ||z|| / ||s||)^2, a = (alpha_s / alpha_u)^2 with u the time after s: 1 - beta_k for VP and sub-VP on
    DDPM's times, 1 for VE. (The authors' code corrects, then predicts.) ||z|| and ||s|| are means over the batch, as in
    the authors' code, so whole blocks of samples are drawn; in few dimensions the norms of single samples, as in their
    algorithms 4 and 5, are correlated with z and bias the chain.
    Score SDE (Song et al., 2021, appendix G), https://arxiv.org/abs/2011.13456

    Args:
        predictor: the reverse diffusion that takes the steps from t to s.
        corrections: Langevin steps after each of them, >= 1.
        snr: signal-to-noise ratio of a Langevin step, > 0.
    """

    independent = False

    def __init__(self, predictor: StepwiseDiffusion, corrections: Count = 1, snr: Positive = 0.16) -> None:
        self.predictor, self.corrections, self.snr = predictor, corrections, snr

    @property
    def clip(self) -> tuple[float, float] | None:
        """The clipping of the predictor."""
        return self.predictor.clip

    @property
    def steps(self) -> Any:
        """The steps of the predictor."""
        return self.predictor.steps

    def check(self, model: Scored) -> None:
        """TypeError or ValueError for a model that does not fit the predictor."""
        super().check(model)
        self.predictor.check(model)

    def with_steps(self, steps: int) -> Self:
        """A copy whose predictor takes `steps` steps."""
        return self.with_options(predictor=self.predictor.with_steps(steps))

    def describe(self) -> dict[str, Any]:
        """Name and options, with those of the predictor."""
        return super().describe() | {"predictor": self.predictor.describe()}

    def plan(self, model: Scored, shape: tuple[int, ...]) -> list[Transition]:
        """The transitions of the predictor, with those of the corrector between them."""
        steps = list(self.predictor.plan(model, shape))
        alpha = model.process.alpha(torch.tensor([step.s for step in steps], dtype=torch.float64))
        ratios = (alpha[:-1] / alpha[1:]).square().tolist()
        plan: list[Transition] = []
        for step, ratio in zip(steps, ratios, strict=False):
            plan += [step, *with_readings(model, [Correction(step.s, step.s, (ratio,))]) * self.corrections]
        return plan + steps[-1:]

    def step(
        self, model: Scored, x: Tensor, transition: Transition, carry: Any, generator: Source
    ) -> tuple[Tensor, Any]:
        """x after a step of the predictor or of the corrector, (B, ...)."""
        if not isinstance(transition, Correction):
            return self.predictor.step(model, x, transition, carry, generator)
        score, z = reading_of("score", model, x, transition.readings[0]), noise_like(x, generator)
        norms = [part.flatten(1).norm(dim=1).mean() for part in (z, score)]
        eta = 2 * transition.coefficients[0] * (self.snr * norms[0] / norms[1]).square()
        return x + eta * score + (2 * eta).sqrt() * z, carry

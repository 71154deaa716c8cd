"""Reverse diffusions by the Gaussian posterior q(x_s | x_t, x_0): ancestral sampling and DDIM.

With a = alpha_t / alpha_s and b^2 = sigma_t^2 - a^2 sigma_s^2, the variance of x_t given x_s, the posterior has mean
(a sigma_s^2 / sigma_t^2) x_t + (alpha_s b^2 / sigma_t^2) x_0 and variance b^2 sigma_s^2 / sigma_t^2: for any process
with noise and any times s < t. DDPM (Ho et al., 2020, eq. 7), https://arxiv.org/abs/2006.11239
"""

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from lightning_gen.models import Scored
from lightning_gen.models.score import combine
from lightning_gen.options import Count, Rate, UnitInterval
from lightning_gen.process import Process
from lightning_gen.randomness import Source, noise_like
from lightning_gen.samplers.base import AffineSteps, StepwiseDiffusion, Transition, reading_of
from lightning_gen.samplers.grids import Spacing


class Posterior(StepwiseDiffusion, AffineSteps):
    """Base of samplers whose steps mix x_t and E[x_0 | x_t], with the clipping of Ho et al. (2020).

    Args:
        clip: [low, high] to which E[x_0 | x_t] is clipped, in units of the data; null for none.
    """

    quantity = "denoise"
    divides = False

    def __init__(self, clip: Sequence[float] | None) -> None:
        if clip is not None and not (len(clip) == 2 and clip[0] < clip[1]):
            raise ValueError(
                f"sampler.clip is {clip}, expected [low, high] with low < high: give the data's range, or null"
            )
        self.clip = None if clip is None else tuple(clip)

    def clean(self, model: Scored, x: Tensor, transition: Transition) -> Tensor:
        """E[x_0 | x_t = x], clipped to `clip`, (B, ...)."""
        clean = reading_of("denoise", model, x, transition.readings[0])
        return clean if self.clip is None else clean.clamp_(*self.clip)

    def step(
        self, model: Scored, x: Tensor, transition: Transition, carry: None, generator: Source
    ) -> tuple[Tensor, None]:
        """One draw of x_s given x_t, (B, ...)."""
        if self.clip is None:
            return super().step(model, x, transition, carry, generator)
        keep, pull, noise = transition.coefficients
        terms = [(keep, x), (pull, self.clean(model, x, transition))]
        return combine(*terms, *([(noise, noise_like(x, generator))] if noise else [])), None


class Ancestral(Posterior):
    """x_s ~ N(posterior mean at the model's E[x_0 | x_t], variance), without noise in the last step.

    DDPM (Ho et al., 2020, section 3.2, algorithm 2), https://arxiv.org/abs/2006.11239

    Args:
        variance: `small` is the posterior's b^2 sigma_s^2 / sigma_t^2 (exact for one data point), `large` is b^2, the
            beta of a single step (exact for data N(0, I)).
        steps: number of steps, a rising list of k in 1..T, or null for all T of a discrete process.
        clip: that of Posterior.
        spacing, t_end: those of `grid`.
    """

    def __init__(
        self,
        variance: Literal["small", "large"] = "large",
        steps: Count | Sequence[Count] | None = None,
        clip: Sequence[float] | None = None,
        spacing: Spacing = "trailing",
        t_end: Rate | None = None,
    ) -> None:
        super().__init__(clip)
        self.variance, self.steps, self.spacing, self.t_end = variance, steps, spacing, t_end

    def transitions(self, process: Process) -> list[Transition]:
        """The transitions, with the factors of x_t, x_0 and new noise."""
        plan = []
        for t, s, (_, sigma_t, alpha_s, sigma_s, ratio, fresh) in self.moments(process):
            variance = fresh * sigma_s**2 / sigma_t**2 if self.variance == "small" else fresh
            noise = 0.0 if sigma_s == 0 else math.sqrt(variance)
            plan.append(Transition(t, s, (ratio * sigma_s**2 / sigma_t**2, alpha_s * fresh / sigma_t**2, noise)))
        return plan


class DDIM(Posterior):
    """x_s = alpha_s x_0 + sqrt(sigma_s^2 - c^2) noise(x_t) + c z, c^2 = eta^2 b^2 sigma_s^2 / sigma_t^2.

    With clipping, noise(x_t) = (x_t - alpha_t x_0) / sigma_t of the clipped x_0, so that the limits of eta hold too.
    DDIM (Song et al., 2021, eq. 12 and 16), https://arxiv.org/abs/2010.02502

    Args:
        steps: number of steps, a rising list of k in 1..T, or null for all T of a discrete process.
        eta: 0 is deterministic, 1 the ancestral step with small variance, in [0, 1].
        clip: that of Posterior.
        spacing, t_end: those of `grid`.
    """

    def __init__(
        self,
        steps: Count | Sequence[Count] | None = 50,
        eta: UnitInterval = 0.0,
        clip: Sequence[float] | None = None,
        spacing: Spacing = "trailing",
        t_end: Rate | None = None,
    ) -> None:
        super().__init__(clip)
        self.steps, self.eta, self.spacing, self.t_end = steps, float(eta), spacing, t_end

    def transitions(self, process: Process) -> list[Transition]:
        """The transitions, with the factors of x_t, x_0 and new noise; noise(x_t) is written by x_t and x_0."""
        plan = []
        for t, s, (alpha_t, sigma_t, alpha_s, sigma_s, _, fresh) in self.moments(process):
            noise = self.eta * math.sqrt(fresh) * sigma_s / sigma_t
            keep = math.sqrt(sigma_s**2 - noise**2) / sigma_t
            plan.append(Transition(t, s, (keep, alpha_s - keep * alpha_t, noise)))
        return plan

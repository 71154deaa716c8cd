"""Reverse diffusions by the Gaussian posterior q(x_s | x_t, x_0): ancestral sampling and DDIM.

With a = alpha_t / alpha_s and b^2 = sigma_t^2 - a^2 sigma_s^2, the variance of x_t given x_s, the posterior has mean
(a sigma_s^2 / sigma_t^2) x_t + (alpha_s b^2 / sigma_t^2) x_0 and variance b^2 sigma_s^2 / sigma_t^2: for any process
with noise and any times s < t. DDPM (Ho et al., 2020, eq. 7), https://arxiv.org/abs/2006.11239
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lightning_gen.models import ScoreModel
from lightning_gen.models.score import instant
from lightning_gen.process import Clean, Process
from lightning_gen.samplers.base import Sampler, Transition


def grid(process: Process, steps: int | Sequence[int] | None, spacing: str = "trailing") -> list[float]:
    """Times from the start down to 0, float64. A discrete process is entered on its own grid k / T.

    steps: None = all T; a number; or an explicit list of k in 1..T. `trailing` starts at t = 1; `leading` has
    k = 1, 1 + c, 1 + 2 c, ... with c = T // steps (DDIM's paper), and so starts below t = 1.
    """
    total = process.steps
    if steps is None and total is None:
        raise ValueError(f"steps is null, and {type(process).__name__} is continuous: give a number of steps")
    if isinstance(steps, Sequence):
        if total is None or any(b <= a for a, b in zip(steps, steps[1:], strict=False)):
            raise ValueError(f"a list of steps needs a discrete process and rising k, got {list(steps)}")
        if steps[0] < 1 or steps[-1] > total:
            raise ValueError(f"steps need 1 <= k <= {total}, got {steps[0]} to {steps[-1]}")
        return [k / total for k in reversed(steps)] + [0.0]
    steps = total if steps is None else steps
    if steps < 1 or (total is not None and steps > total):
        raise ValueError(f"steps needs 1 <= steps <= {total or 'any'}, got {steps}")
    if spacing == "leading":
        if total is None:
            raise ValueError(f"spacing leading needs a discrete process, got {type(process).__name__}: use trailing")
        return [(1 + k * (total // steps)) / total for k in reversed(range(steps))] + [0.0]
    if total is None:
        return [1 - i / steps for i in range(steps)] + [0.0]
    return [round(total * (1 - i / steps)) / total for i in range(steps)] + [0.0]


def clip_to(x: Tensor, clip: Sequence[float] | None) -> Tensor:
    """x_0 held inside the data's range, a sampler's option of Ho et al.; never part of a likelihood."""
    return x if clip is None else x.clamp(clip[0], clip[1])


class Posterior(Sampler):
    """What ancestral sampling and DDIM share: their process, their times, their x_0."""

    def __init__(self, clip: Sequence[float] | None) -> None:
        if clip is not None and not (len(clip) == 2 and clip[0] < clip[1]):
            raise ValueError(f"sampler.clip is {clip}: give [low, high] of the data's range, or null")
        self.clip = None if clip is None else tuple(clip)

    def check(self, model: ScoreModel) -> None:
        """Refuse a process without noise."""
        super().check(model)
        if type(model.process) is Clean:
            raise TypeError(
                f"sampler {type(self).__name__} needs a process with noise, got Clean: choose a Markov chain sampler"
            )

    def times(self, process: Process) -> list[float]:
        """The grid, from its start down to 0."""
        return grid(process, self.steps, self.spacing)

    def moments(self, process: Process) -> list[tuple[float, float, tuple[float, ...]]]:
        """t, s and (alpha_t, sigma_t, alpha_s, sigma_s, a, b^2) for each step, as host scalars."""
        times = torch.tensor(self.times(process), dtype=torch.float64)
        alpha, variance = process.alpha(times), process.variance(times)
        rows = []
        for i in range(len(times) - 1):
            ratio = alpha[i] / alpha[i + 1]
            fresh = variance[i] - ratio.square() * variance[i + 1]
            row = (alpha[i], variance[i].sqrt(), alpha[i + 1], variance[i + 1].sqrt(), ratio, fresh)
            rows.append((times[i].item(), times[i + 1].item(), tuple(float(value) for value in row)))
        return rows

    def clean(self, model: ScoreModel, x: Tensor, t: float) -> Tensor:
        """x_0 as the model sees it from x at t, clipped if asked, (B, ...)."""
        return clip_to(model.denoise(x, instant(t, x)), self.clip)

    def step(
        self, model: ScoreModel, x: Tensor, transition: Transition, carry: None, generator: torch.Generator | None
    ) -> tuple[Tensor, None]:
        """One draw of x_s given x_t, (B, ...)."""
        keep, pull, noise = transition.coefficients
        mean = keep * x + pull * self.clean(model, x, transition.t)
        if noise == 0:
            return mean, None
        return mean + noise * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype), None


class Ancestral(Posterior):
    """x_s ~ N(posterior mean at the model's x_0, variance), without noise in the last step.

    variance `small` is the posterior's own b^2 sigma_s^2 / sigma_t^2 (exact for one data point), `large` is b^2 = beta
    (exact for data N(0, I)). DDPM (Ho et al., 2020, section 3.2, algorithm 2), https://arxiv.org/abs/2006.11239
    """

    def __init__(
        self,
        variance: Literal["small", "large"] = "large",
        steps: int | Sequence[int] | None = None,
        clip: Sequence[float] | None = None,
        spacing: Literal["trailing", "leading"] = "trailing",
    ) -> None:
        super().__init__(clip)
        if variance not in ("small", "large"):
            raise ValueError(f"Ancestral needs variance small or large, got {variance}")
        self.variance, self.steps, self.spacing = variance, steps, spacing

    def plan(self, process: Process) -> list[Transition]:
        """Each step's factors of x_t, x_0 and fresh noise."""
        plan = []
        for t, s, (_, sigma_t, alpha_s, sigma_s, ratio, fresh) in self.moments(process):
            variance = fresh * sigma_s**2 / sigma_t**2 if self.variance == "small" else fresh
            noise = 0.0 if s == 0 else math.sqrt(variance)
            plan.append(Transition(t, s, (ratio * sigma_s**2 / sigma_t**2, alpha_s * fresh / sigma_t**2, noise)))
        return plan


class DDIM(Posterior):
    """x_s = alpha_s x_0 + sqrt(sigma_s^2 - c^2) noise(x_t) + c z, c^2 = eta^2 b^2 sigma_s^2 / sigma_t^2.

    eta = 0 is deterministic, eta = 1 the ancestral step with small variance. A clipped x_0 gives its own noise,
    (x_t - alpha_t x_0) / sigma_t, so that both statements hold with clipping too.
    DDIM (Song et al., 2021, eq. 12 and 16), https://arxiv.org/abs/2010.02502
    """

    def __init__(
        self,
        steps: int | Sequence[int] | None = 50,
        eta: float = 0.0,
        clip: Sequence[float] | None = None,
        spacing: Literal["trailing", "leading"] = "trailing",
    ) -> None:
        super().__init__(clip)
        if not 0 <= eta <= 1:
            raise ValueError(f"DDIM needs 0 <= eta <= 1, got {eta}")
        self.steps, self.eta, self.spacing = steps, float(eta), spacing

    def plan(self, process: Process) -> list[Transition]:
        """Each step's factors of x_t, x_0 and fresh noise, noise(x_t) written by x_t and x_0."""
        plan = []
        for t, s, (alpha_t, sigma_t, alpha_s, sigma_s, _, fresh) in self.moments(process):
            noise = self.eta * math.sqrt(fresh) * sigma_s / sigma_t
            keep = math.sqrt(sigma_s**2 - noise**2) / sigma_t
            # No noise in the last step, as in the ancestral one, also where sigma(0) > 0.
            plan.append(Transition(t, s, (keep, alpha_s - keep * alpha_t, noise if s > 0 else 0.0)))
        return plan

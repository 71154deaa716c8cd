"""Distributions of the training time t: (n, generator) -> (n,) in [0, 1], on the generator's device."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from lightning_gen.options import Count, Finite, OpenUnitInterval, Positive, UnitInterval, checked
from lightning_gen.process import Process, double, instant

Times = Callable[[int, torch.Generator], Tensor]


@checked
def uniform(minimum: OpenUnitInterval = 1e-5) -> Times:
    """t uniform on [minimum, 1].

    Score SDE (Song et al., 2021), appendix C, https://arxiv.org/abs/2011.13456

    Args:
        minimum: smallest t, in (0, 1): where sigma(0) = 0 there is no noise to predict at t = 0.
    """

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return minimum + (1 - minimum) * torch.rand(n, generator=generator, device=generator.device)

    return draw


@checked
def levels(steps: Count, first: Literal[0, 1] = 1) -> Times:
    """t = k / steps, k uniform on 1..steps; with first = 0, t = k / (steps - 1), k uniform on 0..steps - 1.

    DDPM (Ho et al., 2020), algorithm 1, https://arxiv.org/abs/2006.11239; NCSN (Song & Ermon, 2019),
    https://arxiv.org/abs/1907.05600

    Args:
        steps: number of levels, >= 1.
        first: 1 for DDPM's chain, 0 for the noise levels of a VE, the smallest at t = 0.
    """

    def draw(n: int, generator: torch.Generator) -> Tensor:
        k = torch.randint(first, steps + first, (n,), generator=generator, device=generator.device)
        return double(k) / max(steps - 1 + first, 1)

    return draw


@checked
def constant(t: UnitInterval) -> Times:
    """The same t for all samples: a single noise level.

    Args:
        t: the time, in [0, 1].
    """

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return instant(t, torch.empty(n, device=generator.device))

    return draw


@checked
def lognormal(process: Process, mean: Finite = -1.2, std: Positive = 1.2) -> Times:
    """t at which ln(sigma / alpha) ~ N(mean, std^2). It has no bounds, and a VE is defined beyond its levels.

    EDM (Karras et al., 2022), table 1, https://arxiv.org/abs/2206.00364

    Args:
        process: the model's process, with noise, else ValueError.
        mean: mean of ln(sigma / alpha).
        std: standard deviation of ln(sigma / alpha), > 0.
    """
    if process.prior_sigma == 0:
        raise ValueError("lognormal got the process Clean, expected one with noise: choose VE")

    def draw(n: int, generator: torch.Generator) -> Tensor:
        level = mean + std * torch.randn(n, generator=generator, device=generator.device)
        return process.invert((-2 * double(level)).exp())

    return draw


@checked
def logit_normal(mean: Finite = 0.0, std: Positive = 1.0) -> Times:
    """t at which ln(t / (1 - t)) ~ N(mean, std^2): more often in the middle, where the velocity is hardest to predict.

    Scaling rectified flow transformers (Esser et al., 2024), eq. 19, https://arxiv.org/abs/2403.03206

    Args:
        mean: mean of ln(t / (1 - t)): above 0 there is more noise.
        std: standard deviation of ln(t / (1 - t)), > 0.
    """

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return double(mean + std * torch.randn(n, generator=generator, device=generator.device)).sigmoid()

    return draw

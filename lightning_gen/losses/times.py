"""Laws of the training time: (n, generator) -> (n,) in [0, 1], on the generator's device."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from lightning_gen.options import Count, Finite, OpenUnitInterval, Positive, UnitInterval, checked
from lightning_gen.process import Process, double, instant

Times = Callable[[int, torch.Generator], Tensor]


@checked
def uniform(minimum: OpenUnitInterval = 1e-5) -> Times:
    """t uniform on [minimum, 1]; minimum > 0, since sigma(0) = 0 has no noise to predict.

    Score SDE (Song et al., 2021, appendix C), https://arxiv.org/abs/2011.13456
    """

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return minimum + (1 - minimum) * torch.rand(n, generator=generator, device=generator.device)

    return draw


@checked
def levels(steps: Count, first: Literal[0, 1] = 1) -> Times:
    """t = k / steps with k uniform on 1..steps, DDPM's chain (Ho et al., 2020, algorithm 1); or, with first = 0,
    t = k / (steps - 1) with k uniform on 0..steps - 1, NCSN's levels of a VE, t = 0 the smallest (one level: t = 0).
    """

    def draw(n: int, generator: torch.Generator) -> Tensor:
        k = torch.randint(first, steps + first, (n,), generator=generator, device=generator.device)
        return double(k) / max(steps - 1 + first, 1)

    return draw


@checked
def constant(t: UnitInterval) -> Times:
    """One time for all: a single noise level."""

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return instant(t, torch.empty(n, device=generator.device))

    return draw


@checked
def lognormal(process: Process, mean: Finite = -1.2, std: Positive = 1.2) -> Times:
    """t at which ln(sigma / alpha) ~ N(mean, std^2): unbounded, for a VE, which is defined beyond its levels.

    EDM (Karras et al., 2022, table 1), https://arxiv.org/abs/2206.00364
    """
    if process.prior_sigma == 0:
        raise ValueError("times.lognormal needs a process with noise, got Clean: take VE")

    def draw(n: int, generator: torch.Generator) -> Tensor:
        level = mean + std * torch.randn(n, generator=generator, device=generator.device)
        return process.invert((-2 * double(level)).exp())

    return draw

"""Laws of the training time: (n, generator) -> (n,) in (0, 1], on the generator's device."""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_gen.models.score import double

Times = Callable[[int, torch.Generator], Tensor]


def uniform(minimum: float = 1e-5) -> Times:
    """t uniform on [minimum, 1]; minimum > 0, since sigma(0) = 0 has no noise to predict.

    Score SDE (Song et al., 2021, appendix C), https://arxiv.org/abs/2011.13456
    """
    if not 0 < minimum < 1:
        raise ValueError(f"times.uniform needs 0 < minimum < 1, got {minimum}")

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return minimum + (1 - minimum) * torch.rand(n, generator=generator, device=generator.device)

    return draw


def levels(steps: int) -> Times:
    """t = k / steps with k uniform on 1..steps. DDPM (Ho et al., 2020, algorithm 1)."""
    if steps < 1:
        raise ValueError(f"times.levels needs steps >= 1, got {steps}")

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return double(torch.randint(1, steps + 1, (n,), generator=generator, device=generator.device)) / steps

    return draw

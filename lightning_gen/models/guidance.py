"""Classifier-free guidance: a model with bound labels, so that samplers handle no labels."""

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from lightning_gen.models.score import Reading, Scored


class Guided(Scored):
    """noise(x | none) + scale (noise(x | label) - noise(x | none)): the score of p(x)^(1 - scale) p(x | label)^scale.

    Classifier-free diffusion guidance (Ho & Salimans, 2022, eq. 6), https://arxiv.org/abs/2207.12598

    Args:
        model: a conditional model that was trained with the null label too.
        label: labels, (B,).
        scale: guidance scale, >= 0, the paper's w + 1: 1 is the conditional model, 0 the unconditional; above 1 samples
            are more typical and less diverse. Both of 0 and 1 call the network once, other scales twice.
        null: the label that stands for no label; required unless scale is 1.
    """

    def __init__(self, model: Scored, label: Tensor, scale: float = 1.0, null: int | None = None) -> None:
        super().__init__(model.process)
        if not scale >= 0 or (scale != 1 and null is None):
            raise ValueError(
                f"Guided.scale is {scale} and null {null}, expected scale >= 0, and a null label unless scale is 1: "
                "pass both"
            )
        self.model, self.bound, self.scale, self.null = model, label, float(scale), null
        self.support = model.support
        self.evaluations = 2 if scale not in (0, 1) else 1

    def networks(self) -> list[nn.Module]:
        """The networks of the model."""
        return self.model.networks()

    def mixture(self, quantity: Callable[[Scored], Tensor]) -> Tensor:
        """The guided `quantity`, (B, ...): noise, score, denoise, velocity or output, each affine in the others."""
        if self.scale == 1:
            return quantity(self.model.with_label(self.bound))
        unconditional = quantity(self.model.with_label(torch.full_like(self.bound, self.null)))
        if self.scale == 0:
            return unconditional
        return unconditional + self.scale * (quantity(self.model.with_label(self.bound)) - unconditional)

    def noise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[noise | x_t = x, label], guided, (B, ...)."""
        return self.mixture(lambda model: model.noise(x, t))

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """grad log p_t(x | label), guided, (B, ...)."""
        return self.mixture(lambda model: model.score(x, t))

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | x_t = x, label], guided, (B, ...)."""
        return self.mixture(lambda model: model.denoise(x, t))

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """E[dx_t / dt | x_t = x, label], guided, (B, ...)."""
        return self.mixture(lambda model: model.velocity(x, t))

    def defined(self) -> str:
        """The quantity that the model defines."""
        return self.model.defined()

    def readings(self, times: Sequence[float]) -> list[Reading]:
        """The scalars of the model: guidance leaves the factors of x as they are."""
        return self.model.readings(times)

    def output(self, x: Tensor, reading: Reading) -> Tensor:
        """F, guided, (B, ...)."""
        return self.mixture(lambda model: model.output(x, reading))

    def prior(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """The prior of the model, (B, ...)."""
        return self.model.prior(shape, generator)

    def log_prior(self, x: Tensor) -> Tensor:
        """Log-density of the model's prior, nats, (B,)."""
        return self.model.log_prior(x)

    def why_no_prior(self) -> str | None:
        """Why the model has no prior to start from; None where it has one."""
        return self.model.why_no_prior()

    def with_label(self, label: Tensor) -> Self:
        """The same guidance with other labels, (B,)."""
        return type(self)(self.model, label, self.scale, self.null)

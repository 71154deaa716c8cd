"""Classifier-free guidance: a label bound to a model, so that no sampler knows of labels."""

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from lightning_gen.models.base import Reading, Scored


class Guided(Scored):
    """noise(x | none) + scale (noise(x | label) - noise(x | none)): the score of p(x)^(1 - scale) p(x | label)^scale.

    scale 1 is the conditional model, called once; 0 the unconditional; above 1 samples are more typical and less
    diverse. The paper's w is scale - 1. `null` is the label that stands for none.
    Classifier-free diffusion guidance (Ho & Salimans, 2022, eq. 6), https://arxiv.org/abs/2207.12598
    """

    def __init__(self, model: Scored, label: Tensor, scale: float = 1.0, null: int | None = None) -> None:
        super().__init__(model.process)
        if not scale >= 0 or (scale != 1 and null is None):
            raise ValueError(f"Guided needs scale >= 0, and the label for none where it is not 1; got {scale}, {null}")
        self.model, self.bound, self.scale, self.null = model, label, float(scale), null
        self.support = model.support
        self.evaluations = 2 if scale not in (0, 1) else 1

    def networks(self) -> list[nn.Module]:
        """The model's own."""
        return self.model.networks()

    def mixture(self, quantity: Callable[[Scored], Tensor]) -> Tensor:
        """`quantity` of the mixture, (B, ...): noise, score, denoise, output, each affine in the others."""
        if self.scale == 1:
            return quantity(self.model.with_label(self.bound))
        none = quantity(self.model.with_label(torch.full_like(self.bound, self.null)))
        if self.scale == 0:
            return none
        return none + self.scale * (quantity(self.model.with_label(self.bound)) - none)

    def noise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[noise | x_t = x, label], guided, (B, ...)."""
        return self.mixture(lambda model: model.noise(x, t))

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """grad log p_t(x | label), guided, (B, ...)."""
        return self.mixture(lambda model: model.score(x, t))

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | x_t = x, label], guided, (B, ...)."""
        return self.mixture(lambda model: model.denoise(x, t))

    def readings(self, times: Sequence[float]) -> list[Reading]:
        """The model's own: the factors of x add up to themselves."""
        return self.model.readings(times)

    def output(self, x: Tensor, reading: Reading) -> Tensor:
        """F, guided, (B, ...)."""
        return self.mixture(lambda model: model.output(x, reading))

    def prior(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """The model's own, (B, ...)."""
        return self.model.prior(shape, generator)

    def log_prior(self, x: Tensor) -> Tensor:
        """The model's own, nats, (B,)."""
        return self.model.log_prior(x)

    def why_no_prior(self) -> str | None:
        """The model's own."""
        return self.model.why_no_prior()

    def with_label(self, label: Tensor) -> Self:
        """The same guidance towards other labels."""
        return type(self)(self.model, label, self.scale, self.null)

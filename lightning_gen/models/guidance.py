"""Classifier-free guidance: a label bound to a model, so that no sampler knows of labels."""

from typing import Self

import torch
from torch import Tensor

from lightning_gen.models.score import ScoreModel


class Guided(ScoreModel):
    """noise(x | none) + scale (noise(x | label) - noise(x | none)): the score of p(x)^(1 - scale) p(x | label)^scale.

    scale 1 is the conditional model, called once; 0 the unconditional; above 1 samples are more typical and less
    diverse. The paper's w is scale - 1. `null` is the label that stands for none, `evaluations` how often one reading
    calls the network.
    Classifier-free diffusion guidance (Ho & Salimans, 2022, eq. 6), https://arxiv.org/abs/2207.12598
    """

    def __init__(self, model: ScoreModel, label: Tensor, scale: float = 1.0, null: int | None = None) -> None:
        super().__init__(model.process)
        if not scale >= 0 or (scale != 1 and null is None):
            raise ValueError(f"Guided needs scale >= 0, and the label for none where it is not 1; got {scale}, {null}")
        self.model, self.bound, self.scale, self.null = model, label, float(scale), null
        self.evaluations = 2 if scale not in (0, 1) else 1

    def read(self, reading: str, x: Tensor, t: Tensor) -> Tensor:
        """`reading` (noise, score, denoise: each affine in the others) of the mixture, (B, ...)."""
        if self.scale == 1:
            return getattr(self.model.given(self.bound), reading)(x, t)
        none = getattr(self.model.given(torch.full_like(self.bound, self.null)), reading)(x, t)
        if self.scale == 0:
            return none
        return none + self.scale * (getattr(self.model.given(self.bound), reading)(x, t) - none)

    def noise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[noise | x_t = x, label], guided, (B, ...)."""
        return self.read("noise", x, t)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """grad log p_t(x | label), guided, (B, ...)."""
        return self.read("score", x, t)

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | x_t = x, label], guided, (B, ...)."""
        return self.read("denoise", x, t)

    def prior(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """The model's own, (B, ...)."""
        return self.model.prior(shape, generator)

    def log_prior(self, x: Tensor) -> Tensor:
        """The model's own, nats, (B,)."""
        return self.model.log_prior(x)

    def given(self, label: Tensor) -> Self:
        """The same guidance towards other labels."""
        return type(self)(self.model, label, self.scale, self.null)

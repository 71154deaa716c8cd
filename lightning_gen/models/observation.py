"""A density for decoders that have none: Gaussian observations about what they generate."""

import math
from typing import Self

import torch
from torch import Tensor, nn

from lightning_gen.models.base import LatentVariables, ObservationModel
from lightning_gen.options import Positive
from lightning_gen.randomness import noise_like


class GaussianObservation(ObservationModel):
    """p(x|z) = N(E[x|z], s^2 I) about the mean of a decoder, as G(z) of a GAN; log p(x) depends on the choice of s.

    On the quantitative analysis of decoder-based generative models (Wu et al., 2017), https://arxiv.org/abs/1611.04273

    Args:
        model: the decoder.
        deviation: s, in units of x, > 0.
    """

    def __init__(self, model: LatentVariables, deviation: Positive) -> None:
        super().__init__()
        self.model, self.latent, self.deviation = model, model.latent, float(deviation)

    def with_label(self, label: Tensor) -> Self:
        """A copy whose decoder has the labels (B,)."""
        bound = super().with_label(label)
        bound._modules = {**bound._modules, "model": self.model.with_label(label)}
        return bound

    def networks(self) -> list[nn.Module]:
        """Those of the decoder."""
        return self.model.networks()

    def visible(self, z: Tensor) -> Tensor:
        """E[x|z], (B, *shape)."""
        return self.model.visible(z)

    def sample_visible(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """x ~ N(E[x|z], s^2 I), (B, *shape)."""
        mean = self.visible(z)
        return mean + self.deviation * noise_like(mean, generator)

    def log_conditional(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z), nats, (B,)."""
        squares = ((x - self.visible(z)) / self.deviation).square().flatten(1)
        return -0.5 * squares.sum(1) - squares.shape[1] * math.log(self.deviation * math.sqrt(2 * math.pi))

"""Implicit models: x = G(z), samples without a density."""

from typing import Any

import torch
from torch import Tensor, nn

from lightning_gen.models.base import LatentVariables


class Generator(LatentVariables):
    """x = G(z), z ~ N(0, I): p(x|z) is a point mass, so that x has no density.

    Generative adversarial nets (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661

    Args:
        net: G, of z (B, latent) and, where it has classes, labels (B,).
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net, self.latent = net, net.latent

    def networks(self) -> list[nn.Module]:
        """G alone."""
        return [self.net]

    def visible(self, z: Tensor) -> Tensor:
        """G(z), (B, *shape)."""
        return self.net(z) if self.label is None else self.net(z, self.label)

    def sample_visible(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """G(z), (B, *shape): nothing is drawn."""
        return self.visible(z)

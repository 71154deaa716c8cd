"""Noise-contrastive estimation: tell data from noise of known density; the energy is learned with its constant."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_gen.losses.base import Loss
from lightning_gen.models import Energy
from lightning_gen.options import Count, Finite, Positive


class NCE(Loss):
    """-log s(G(x)) - ratio log(1 - s(G(y))), s(G) = 1 / (1 + ratio e^{-G}), G(u) = -E(u) - log p_noise(u).

    y ~ N(mean, std^2 I), `ratio` of them a sample. Least where exp(-E) = p_data, its constant included: E needs one
    that is learned, or log Z stays what it was. Good where noise covers the data and is not far from them.
    Gutmann & Hyvarinen (2010), https://proceedings.mlr.press/v9/gutmann10a.html
    """

    needs = (Energy,)
    supports = ("real",)

    def __init__(self, std: Positive, mean: Finite = 0.0, ratio: Count = 1) -> None:
        super().__init__()
        self.std, self.mean, self.ratio = std, mean, ratio

    def forward(self, model: Energy, x: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of each sample with its own noise, nats, (B,)."""
        shape = (len(x) * self.ratio, *x.shape[1:])
        noise = torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype)
        points = torch.cat([x, self.mean + self.std * noise])
        gain = -model.energy(points) - self.log_noise(points) - math.log(self.ratio)
        data, other = gain[: len(x)], gain[len(x) :]
        return F.softplus(-data) + F.softplus(other).view(self.ratio, len(x)).sum(0)

    def log_noise(self, x: Tensor) -> Tensor:
        """log p_noise(x), nats, (B,)."""
        squares = ((x - self.mean) / self.std).flatten(1).square().sum(1)
        return -0.5 * squares - x[0].numel() * math.log(self.std * math.sqrt(2 * math.pi))

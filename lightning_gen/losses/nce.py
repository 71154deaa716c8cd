"""Noise-contrastive estimation: classify data against noise of known density; log Z is learned with the energy."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_gen.losses.base import Loss
from lightning_gen.models import Energy
from lightning_gen.options import Count, Finite, Positive


class NCE(Loss):
    """-log s(G(x)) - sum_i log(1 - s(G(y_i))), s(G) = 1 / (1 + ratio e^{-G}), G(u) = -E(u) - log p_noise(u).

    y_i ~ N(mean, std^2 I), i = 1..ratio. The minimum is exp(-E) = p_data, for which E needs a learned constant.
    Noise-contrastive estimation (Gutmann & Hyvarinen, 2010), https://proceedings.mlr.press/v9/gutmann10a.html

    Args:
        std: standard deviation of the noise, in units of the data, > 0; the noise should cover the data.
        mean: mean of the noise in every dimension, in units of the data.
        ratio: noise samples per data sample, >= 1.
    """

    needs = (Energy,)
    supports = ("real", "interval")

    def __init__(self, std: Positive, mean: Finite = 0.0, ratio: Count = 1) -> None:
        super().__init__()
        self.std, self.mean, self.ratio = std, mean, ratio

    def forward(self, model: Energy, x: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of each sample and its noise samples, nats, (B,)."""
        shape = (len(x) * self.ratio, *x.shape[1:])
        noise = torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype)
        points = torch.cat([x, self.mean + self.std * noise])
        logits = -model.energy(points) - self.log_noise(points) - math.log(self.ratio)
        data, other = logits[: len(x)], logits[len(x) :]
        return F.softplus(-data) + F.softplus(other).view(self.ratio, len(x)).sum(0)

    def log_noise(self, x: Tensor) -> Tensor:
        """log p_noise(x), nats, (B,)."""
        squares = ((x - self.mean) / self.std).flatten(1).square().sum(1)
        return -0.5 * squares - x[0].numel() * math.log(self.std * math.sqrt(2 * math.pi))

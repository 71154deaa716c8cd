"""Maximum likelihood of normalised densities."""

import torch
from torch import Tensor

from lightning_gen.losses.base import Loss
from lightning_gen.models import Normalised


class NegativeLogLikelihood(Loss):
    """log q(y|x) - log p(y), y ~ q(y|x) the dequantised x; -log p(x) where there is no dequantisation.

    Its mean is at least -log P(x), P the probability of whole levels (Jensen).
    Flow++ (Ho et al., 2019), eq. 12, https://arxiv.org/abs/1902.00275
    """

    needs = (Normalised,)

    def forward(self, model: Normalised, x: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of each sample, nats, (B,)."""
        y, log_q = model.dequantise(x, generator)
        return log_q - model.log_prob(y)

"""Maximum likelihood of normalised densities."""

import torch
from torch import Tensor

from lightning_gen.losses.base import Loss
from lightning_gen.models import Normalised


class NegativeLogLikelihood(Loss):
    """-log p(x), whose mean over data is the cross-entropy: least where p is the data's law."""

    needs = (Normalised,)

    def forward(self, model: Normalised, x: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of each sample, nats, (B,)."""
        return -model.log_prob(x)

"""What every loss is: (model, x, generator) -> one value a sample, and what it needs of the model."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lightning_gen.models import Model, Requires
from lightning_gen.options import Checked


class Loss(Checked, Requires, nn.Module, ABC):
    """A loss with its options. Parameters that it owns, as of a critic, are trained beside the model's."""

    role = "loss"
    sampler = None  # that it draws from the model with

    @abstractmethod
    def forward(self, model: Model, x: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of each sample, (B,), of x (B, ...); noise comes from the generator."""

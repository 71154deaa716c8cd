"""What every loss is: (model, x, generator) -> one value a sample, and what it needs of the model."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lightning_gen.models import Model, Requires
from lightning_gen.options import Checked
from lightning_gen.samplers import Sampler


class Loss(Checked, Requires, nn.Module, ABC):
    """A loss with its options. Parameters that it owns, as of a critic, are trained beside the model's."""

    role = "loss"
    sampler: Sampler | None = None  # that it draws from the model with
    chains: Tensor | None = None  # that are kept from batch to batch, of this rank, (n, ...)
    farthest: Tensor | None = (
        None  # largest energy difference of a chain from the data since `forget`, nats a dimension
    )
    limit: float | None = None  # of `farthest`, above which the run is stopped

    def forget(self) -> None:
        """Start `farthest` anew."""
        self.farthest = None

    @abstractmethod
    def forward(self, model: Model, x: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of each sample, (B,), of x (B, ...); noise comes from the generator."""

"""Base of the losses: (model, x, generator) -> one value per sample, with the capabilities that the model needs."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lightning_gen.models import Model, Requires
from lightning_gen.options import Checked
from lightning_gen.samplers import Sampler


class Loss(Checked, Requires, nn.Module, ABC):
    """A loss with its options. Its own parameters, such as a critic's, are trained with the model's."""

    role = "loss"
    sampler: Sampler | None = None  # of its Markov chains, if it runs any
    chains: Tensor | None = None  # persistent ones of this rank, (n, ...)
    max_deviation: Tensor | None = None  # of a chain's energy from the data's since the last reset, nats per dimension
    limit: float | None = None  # of max_deviation, above which training stops
    # What weights in shards over the processes do not allow; None for a loss that does not differentiate in x.
    unshardable: str | None = "may use weights outside of a network's forward pass, or train on its derivatives in x"

    @abstractmethod
    def forward(self, model: Model, x: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of each sample, (B,), for x (B, ...); all noise is drawn from the generator."""

    def deviated(self, energies: Tensor, dimension: int) -> None:
        """Keep the largest of differences of energies, nats, (B,), in nats per dimension, on the device."""
        largest = self.max_deviation
        deviation = torch.linalg.vector_norm(energies.detach(), math.inf) / dimension
        self.max_deviation = deviation if largest is None else torch.maximum(largest, deviation)

"""Diffusion recovery likelihood: contrastive divergence on the conditionals of neighbouring levels."""

import torch
from torch import Tensor

from lightning_gen.losses.base import Loss
from lightning_gen.models.recovery import RecoveryEnergy
from lightning_gen.options import Positive
from lightning_gen.randomness import noise_like
from lightning_gen.samplers.recovery import TiltedLangevin


class RecoveryLikelihood(Loss):
    """E(y, k) - E(y', k) at a random level k: y = a_k x_k of the data, y' the end of a chain on p(y | x_{k+1}).

    Its gradient is that of -log p(y | x_{k+1}) where the chain has mixed. Learning energy-based models by diffusion
    recovery likelihood (Gao et al., 2021, algorithm 1), https://arxiv.org/abs/2012.08125, without its weight of levels.

    Args:
        sampler: the chain, from x_{k+1}.
        limit: largest |E(y') - E(y)| in training, nats per dimension, > 0, above which the run stops; null for
            none.
    """

    needs = (RecoveryEnergy,)
    supports = ("real",)

    def __init__(self, sampler: TiltedLangevin, limit: Positive | None = 1000.0) -> None:
        super().__init__()
        self.chain, self.limit = sampler, limit

    def check(self, model: RecoveryEnergy) -> None:
        """TypeError for another model."""
        super().check(model)
        self.chain.check(model)

    def forward(self, model: RecoveryEnergy, x: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of each sample, nats, (B,)."""
        steps = model.process.steps
        k = torch.randint(steps, (len(x),), generator=generator, device=x.device)
        a, b2 = model.factors(k, x)
        y = a * model.process.perturb(x, k.double() / steps, noise_like(x, generator))
        anchor = y + b2.sqrt() * noise_like(x, generator)
        eta, reached = self.chain.step_size * b2, anchor
        deviation = (2 * self.chain.temperature * eta).sqrt()
        with torch.no_grad():
            for _ in range(self.chain.steps):
                reached = self.chain.move(model, reached, anchor, k, eta, deviation, generator)
        data, chains = model.energy(torch.cat([y, reached]), torch.cat([k, k])).chunk(2)
        if self.training:
            gap, largest = (chains - data).detach().abs().amax() / x[0].numel(), self.max_deviation
            self.max_deviation = gap if largest is None else torch.maximum(largest, gap)
        return data - chains

"""Diffusion recovery likelihood: contrastive divergence on the conditionals of neighbouring levels."""

import torch
from torch import Tensor

from lightning_gen.losses.base import Loss
from lightning_gen.models.recovery import RecoveryEnergy
from lightning_gen.options import Positive
from lightning_gen.process import double, expand
from lightning_gen.randomness import noise_like
from lightning_gen.samplers.recovery import TiltedLangevin


class RecoveryLikelihood(Loss):
    """v_k (E(y, k) - E(y', k)) at a random level k: y = a_k x_k of data, y' the end of a chain on p(y | x_{k+1}).

    Its gradient is that of -v_k log p(y | x_{k+1}) where the chain has mixed; v_k is the variance of the noise in y.
    Learning energy-based models by diffusion recovery likelihood (Gao et al., 2021, algorithm 1),
    https://arxiv.org/abs/2012.08125

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
        k = torch.randint(model.levels, (len(x),), generator=generator, device=x.device)
        rows = torch.tensor(self.chain.coefficients(model), device=x.device, dtype=x.dtype)
        coefficients = [expand(column, x) for column in rows[k].unbind(1)]
        a = torch.tensor(model.shrink, device=x.device, dtype=x.dtype)[k]
        y = expand(a, x) * model.process.perturb(x, double(k + 1) / model.process.steps, noise_like(x, generator))
        anchor = y + expand((1 - a.square()).sqrt(), x) * noise_like(x, generator)
        reached = anchor
        with torch.no_grad():
            for _ in range(self.chain.steps):
                reached = self.chain.move(model, reached, anchor, k, coefficients, generator)
        data, chains = model.weighted(torch.cat([y, reached]), torch.cat([k, k])).chunk(2)
        if self.training:
            self.deviated((chains - data) / model.variances[k], x[0].numel())
        return data - chains

"""Energies trained adversarially: a generator draws the samples of contrastive divergence."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_gen.families.chains import Chains
from lightning_gen.families.gan import check_range
from lightning_gen.families.players import Batch, Player
from lightning_gen.losses import ContrastiveDivergence
from lightning_gen.losses.adversarial import slope
from lightning_gen.losses.entropy import nearest_neighbour_entropy
from lightning_gen.models import GeneratedEnergy
from lightning_gen.models.base import declared
from lightning_gen.nets import GeneratorCritic
from lightning_gen.options import NonNegative, Positive
from lightning_gen.samplers import Prior


class AdversarialEBM(Chains):
    """min_E max_G of mean E(x) over the data - mean E(G(z)) + H(G): maximum likelihood, with a generator for chains.

    log Z = max_q H(q) - E_q E(x) with the maximum at q = exp(-E) / Z: where G reaches it, the energy's gradient is that
    of -log p. The energy is the main player; H is estimated by distances of nearest neighbours in a batch. E is the
    critic's value D over `entropy`, and the losses are `entropy` times the above: D(x) - D(G(z)), D(G(z)) - entropy H.
    Deep directed generative models with energy-based probability estimation (Kim & Bengio, 2016),
    https://arxiv.org/abs/1606.03439; calibrating energy-based GANs (Dai et al., 2017), https://arxiv.org/abs/1702.01691

    Args:
        net: generator, and critic as the energy.
        entropy: weight of H(G) in the generator's loss, >= 0; at 0, where E = D, only minima of E are left of G.
        r1: factor of 1/2 ||grad D(x)||^2 on the data without jitter, >= 0; maximum entropy generators (Kumar et al.,
            2019), https://arxiv.org/abs/1901.08508.
        jitter: standard deviation of Gaussian noise added to the data, in units of the data, >= 0.
        limit: that of ContrastiveDivergence.
        confine: that of EnergyNetwork.
        generator_optimizer: parameters -> Optimizer of the generator; null for the energy's.
        optimizer, options: those of GenerativeModule.
    """

    def __init__(
        self,
        net: GeneratorCritic,
        optimizer: Callable,
        entropy: NonNegative = 1.0,
        r1: NonNegative = 0.0,
        jitter: NonNegative = 0.0,
        limit: Positive | None = 1000.0,
        confine: Positive | None = None,
        generator_optimizer: Callable | None = None,
        **options: Any,
    ) -> None:
        if options.get("classes") is not None:
            raise ValueError(
                f"module.classes is {options['classes']}, expected null: this family's energy has no labels; write null"
            )
        self.unit = entropy or 1.0  # of D, in nats
        model = GeneratedEnergy(net, confine, 1 / self.unit)
        loss = ContrastiveDivergence(Prior(), "noise", jitter=jitter, limit=limit)
        super().__init__(model=model, loss=loss, optimizer=optimizer, **options)
        self.range, self.entropy, self.r1 = declared(net, "value_range"), entropy, r1
        self.make_generator_optimizer = generator_optimizer or optimizer

    def check_data(self, data: Any) -> None:
        """ValueError for images in another range than the generator's, and for batches without neighbours."""
        super().check_data(data)
        check_range(self.range, data)
        ranks = 1 if self._trainer is None else self.trainer.world_size
        if self.entropy and data.batch_size < 2 * ranks:
            raise ValueError(
                f"data.batch_size is {data.batch_size}, expected at least {2 * ranks}, two samples a rank, whose "
                "distance estimates the generator's entropy: enlarge it"
            )

    def players(self) -> list[Player]:
        """The generator, and the energy, each on every batch."""
        generator, energy = ([*net.parameters()] for net in (self.model.net.generator, self.model.net.critic))
        return [
            Player("generator", generator, self.generate, self.make_generator_optimizer),
            Player("energy", energy, self.objective, self.make_optimizer, self.make_scheduler),
        ]

    def objective(self, model: GeneratedEnergy, batch: Batch, noise: torch.Generator, step: int) -> Tensor:
        """Losses of the energy, D(x) - mean D(G(z)) + r1 / 2 ||grad D(x)||^2, (B,)."""
        loss = self.unit * super().objective(model, batch, noise, step)
        return loss + self.r1 / 2 * self.unit**2 * slope(model.energy, batch["x"]) if self.r1 else loss

    def generate(self, model: GeneratedEnergy, batch: Batch, noise: torch.Generator, step: int) -> Tensor:
        """Losses of the generator, D(G(z)) - entropy H, (B,)."""
        x = model.prior(tuple(batch["x"].shape), noise)
        loss = self.unit * model.energy(x)
        return loss - self.entropy * nearest_neighbour_entropy(x) if self.entropy else loss

"""An energy with a generator beside it, whose samples stand for those of Markov chains."""

import torch
from torch import Tensor

from lightning_gen.models.energy import EnergyNetwork
from lightning_gen.nets import GeneratorCritic
from lightning_gen.options import Positive


class GeneratedEnergy(EnergyNetwork):
    """p(x) = exp(-E(x)) / Z with E the critic of a pair, and x = G(z), z ~ N(0, I), as the start of chains on it.

    Deep directed generative models with energy-based probability estimation (Kim & Bengio, 2016),
    https://arxiv.org/abs/1606.03439

    Args:
        net: the generator, and the critic, whose value times `scale` is E(x), (B,).
        confine, scale: those of EnergyNetwork.
    """

    def __init__(self, net: GeneratorCritic, confine: Positive | None = None, scale: Positive = 1.0) -> None:
        super().__init__(net, readout="scalar", confine=confine, scale=scale)

    def prior(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """x = G(z), (B, ...)."""
        own = next(self.net.generator.parameters())
        device = own.device if generator is None else generator.device
        z = torch.randn(shape[0], self.net.generator.latent, generator=generator, device=device, dtype=own.dtype)
        return self.net.generator(z)

    def why_no_prior(self) -> None:
        """None: there is the generator."""
        return None

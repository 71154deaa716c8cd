"""Energies: p(x) = exp(-E(x)) / Z. The score is -grad E, and this file is the one owner of that sign."""

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_gen.models.score import ScoreModel
from lightning_gen.process import Clean, Process, expand


def twice() -> AbstractContextManager:
    """Attention by plain products inside: PyTorch's fused kernels cannot be differentiated twice."""
    return sdpa_kernel(SDPBackend.MATH)


class EnergyModel(ScoreModel):
    """A density known up to its constant, of clean data or of data at one noise level.

    How to train your energy-based models (Song & Kingma, 2021), https://arxiv.org/abs/2101.03288
    """

    @abstractmethod
    def energy(self, x: Tensor) -> Tensor:
        """E(x), nats, (B,)."""

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """-grad E(x), (B, ...): in grad mode part of the graph, so that a loss trains weights; else plain values."""
        graph = torch.is_grad_enabled()
        with torch.enable_grad(), twice() if graph else nullcontext():
            place = x if graph and x.requires_grad else x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.energy(place).sum(), place, create_graph=graph)
        return -gradient

    def noise(self, x: Tensor, t: Tensor) -> Tensor:
        """-sigma score, (B, ...): through denoise the digits of a small sigma would be lost."""
        return -expand(self.process.sigma(t), x) * self.score(x, t)

    def energy_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x), (B,), and -grad E(x), (B, ...), of one pass, as plain values."""
        with torch.enable_grad():
            place = x.detach().requires_grad_()
            energy = self.energy(place)
            (gradient,) = torch.autograd.grad(energy.sum(), place)
        return energy.detach(), -gradient


def product(x: Tensor, f: Tensor) -> Tensor:
    """E = x^T f, (B,): normalisable only where f is bounded away from growing against x."""
    return (x * f).flatten(1).sum(1)


def reconstruction(x: Tensor, f: Tensor) -> Tensor:
    """E = 1/2 ||x - f||^2, (B,)."""
    return 0.5 * (x - f).flatten(1).square().sum(1)


def norm(x: Tensor, f: Tensor) -> Tensor:
    """E = 1/2 ||f||^2, (B,)."""
    return 0.5 * f.flatten(1).square().sum(1)


READOUTS = {"product": product, "reconstruction": reconstruction, "norm": norm}


class EnergyNetwork(EnergyModel):
    """E(x) = readout(x, f(x)) + 1/2 ||x||^2 / confine^2 of a network f that gives something like x.

    `confine`, where it is given, makes exp(-E) integrable for every readout that is bounded below.
    Learning Energy-Based Models in High-Dimensional Spaces with Multi-scale Denoising Score Matching
    (Li et al., 2019), https://arxiv.org/abs/1910.07762; Salimans & Ho (2021), https://openreview.net/forum?id=9AS-TF2jRNb
    """

    def __init__(
        self,
        net: nn.Module,
        process: Process | None = None,
        readout: Literal["product", "reconstruction", "norm"] = "reconstruction",
        confine: float | None = None,
    ) -> None:
        super().__init__(Clean() if process is None else process)
        if readout not in READOUTS:
            raise ValueError(f"readout is {readout}: choose one of {', '.join(READOUTS)}")
        if confine is not None and not confine > 0:
            raise ValueError(f"EnergyNetwork needs confine > 0, or null for no confining term, got {confine}")
        self.net, self.readout, self.confine = net, readout, confine

    def energy(self, x: Tensor) -> Tensor:
        """E(x), nats, (B,)."""
        f = self.call(self.net, x, torch.zeros((), device=x.device, dtype=x.dtype))
        energy = READOUTS[self.readout](x, f)
        return energy if self.confine is None else energy + norm(x, x / self.confine)

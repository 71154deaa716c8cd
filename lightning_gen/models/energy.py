"""Energies: p(x) = exp(-E(x)) / Z. The score is -grad E, and this file is the one owner of that sign."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_gen.models.base import Energy, Scored
from lightning_gen.models.requirements import declared
from lightning_gen.options import Positive
from lightning_gen.process import Clean, Process, expand


def twice() -> AbstractContextManager:
    """Attention by plain products inside: PyTorch's fused kernels cannot be differentiated twice."""
    return sdpa_kernel(SDPBackend.MATH)


class SmoothEnergy(Energy, Scored):
    """An energy with a gradient, of clean data or of data at one noise level: score = -grad E."""

    title = "an energy with a score"

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """-grad E(x), (B, ...): in grad mode part of the graph, so that a loss trains weights; else plain values."""
        graph = torch.is_grad_enabled()
        with torch.enable_grad(), twice() if graph else nullcontext():
            x = x if graph and x.requires_grad else x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=graph)
        return -gradient

    def noise_level(self) -> float:
        """sigma(0) of the process."""
        return float(self.process.sigma(torch.zeros((), dtype=torch.float64)))

    def noise(self, x: Tensor, t: Tensor) -> Tensor:
        """-sigma score, (B, ...): through denoise the digits of a small sigma would be lost."""
        return -expand(self.process.sigma(t), x) * self.score(x, t)

    def energy_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x), (B,), and -grad E(x), (B, ...), of one pass, as plain values."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = self.energy(x)
            (gradient,) = torch.autograd.grad(energy.sum(), x)
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


def scalar(x: Tensor, f: Tensor) -> Tensor:
    """E = f, (B,), of a network that gives one number a sample."""
    return f


READOUTS = {"product": product, "reconstruction": reconstruction, "norm": norm, "scalar": scalar}


class EnergyNetwork(SmoothEnergy):
    """E(x) = readout(x, f(x)) + 1/2 ||x||^2 / confine^2 of a network f that gives something like x, or a scalar.

    `confine`, where it is given, makes exp(-E) integrable for every readout that is bounded below, and for a network
    that cannot outgrow it: `why_unnormalisable` says so. With `constant` a number is learned that is added to E, for
    losses that learn log Z with it.
    Learning Energy-Based Models in High-Dimensional Spaces with Multi-scale Denoising Score Matching
    (Li et al., 2019), https://arxiv.org/abs/1910.07762; Salimans & Ho (2021), https://openreview.net/forum?id=9AS-TF2jRNb
    """

    def __init__(
        self,
        net: nn.Module,
        process: Process | None = None,
        readout: Literal["product", "reconstruction", "norm", "scalar"] = "reconstruction",
        confine: Positive | None = None,
        constant: bool = False,
    ) -> None:
        super().__init__(Clean() if process is None else process)
        self.net, self.readout, self.confine = net, readout, confine
        self.constant = nn.Parameter(torch.zeros(())) if constant else None

    def networks(self) -> list[nn.Module]:
        """The one network."""
        return [self.net]

    def energy(self, x: Tensor) -> Tensor:
        """E(x), nats, (B,)."""
        f = self.call(self.net, x, torch.zeros((), device=x.device, dtype=x.dtype))
        if (f.ndim == 1) != (self.readout == "scalar"):
            name = type(self.net).__name__
            raise ValueError(
                f"readout is {self.readout}, and {name} gives {'one number' if f.ndim == 1 else 'something like x'}: "
                f"choose {'scalar' if f.ndim == 1 else 'product, reconstruction or norm'}"
            )
        energy = READOUTS[self.readout](x, f)
        energy = energy if self.confine is None else energy + norm(x, x / self.confine)
        return energy if self.constant is None else energy + self.constant

    def why_unnormalisable(self) -> str | None:
        """Why exp(-E) may not be integrable; None: it is, for any weights."""
        if self.confine is None:
            return "it has no confining term: give module.confine a length"
        growth = declared(self.net, "growth")  # "bounded": |f| < C; "linear": |f| < C (1 + |x|)
        if self.readout in ("reconstruction", "norm") or growth == "bounded":
            return None
        if self.readout == "scalar" and growth == "linear":
            return None
        return (
            f"{type(self.net).__name__} by the readout {self.readout} may outgrow its confining term: "
            "choose the readout reconstruction or norm"
        )


class SumOfEnergies(SmoothEnergy):
    """E(x) = sum_k E_k(x): the product of the densities, where all of them hold at once; over the parts' one support.

    Compositional visual generation with energy-based models (Du, Li & Mordatch, 2020), https://arxiv.org/abs/2004.06030
    """

    def __init__(self, *parts: Energy) -> None:
        super().__init__(Clean())
        if len(parts) < 2:
            raise ValueError(f"SumOfEnergies needs at least 2 energies, got {len(parts)}")
        if len({part.support for part in parts}) > 1:
            supports = ", ".join(f"{type(part).__name__} over {part.support}" for part in parts)
            raise ValueError(f"SumOfEnergies needs parts over one support, got {supports}")
        self.support = parts[0].support
        self.parts = nn.ModuleList(parts)

    def energy(self, x: Tensor) -> Tensor:
        """E(x), nats, (B,)."""
        return sum(part.energy(x) for part in self.parts)

    def why_unnormalisable(self) -> str | None:
        """Why exp(-E) may not be integrable; None: it is."""
        return next((why for part in self.parts if (why := part.why_unnormalisable())), None)

"""Differentiable energies: p(x) = exp(-E(x)) / Z, with the score -grad E."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_gen.models.base import Energy, declared
from lightning_gen.models.score import Scored
from lightning_gen.options import Positive
from lightning_gen.process import Clean, Process


def twice_differentiable() -> AbstractContextManager:
    """Context with attention by plain matrix products: PyTorch's fused kernels cannot be differentiated twice."""
    return sdpa_kernel(SDPBackend.MATH)


class SmoothEnergy(Energy, Scored):
    """An energy with a gradient, of clean data or of data at one noise level: score = -grad E."""

    title = "an energy with a score"
    unshardable = "has derivatives of its networks in x for a score"

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """-grad E(x), (B, ...): part of the graph in grad mode, for losses that train on it; else detached."""
        graph = torch.is_grad_enabled()
        with torch.enable_grad(), twice_differentiable() if graph else nullcontext():
            x = x if graph and x.requires_grad else x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=graph)
        return -gradient

    def noise_level(self) -> float:
        """sigma(0) of the process."""
        return float(self.process.sigma(torch.zeros((), dtype=torch.float64)))

    def energy_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x), (B,), and -grad E(x), (B, ...), from one pass, without a graph."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = self.energy(x)
            (gradient,) = torch.autograd.grad(energy.sum(), x)
        return energy.detach(), -gradient


def product(x: Tensor, f: Tensor) -> Tensor:
    """E = x^T f, (B,)."""
    return (x * f).flatten(1).sum(1)


def reconstruction(x: Tensor, f: Tensor) -> Tensor:
    """E = 1/2 ||x - f||^2, (B,)."""
    return 0.5 * (x - f).flatten(1).square().sum(1)


def norm(x: Tensor, f: Tensor) -> Tensor:
    """E = 1/2 ||f||^2, (B,)."""
    return 0.5 * f.flatten(1).square().sum(1)


def scalar(x: Tensor, f: Tensor) -> Tensor:
    """E = f, (B,), of a network with one number for each sample."""
    return f


READOUTS = {"product": product, "reconstruction": reconstruction, "norm": norm, "scalar": scalar}


def read(readout: str, x: Tensor, f: Tensor, net: nn.Module) -> Tensor:
    """The readout of f = net(x), (B,); ValueError for an output f that it does not fit."""
    if (f.ndim == 1) != (readout == "scalar"):
        output = "one number a sample: choose scalar"
        if f.ndim > 1:
            output = "a tensor like x: choose product, reconstruction or norm"
        raise ValueError(f"module.readout is {readout}, and {type(net).__name__} returns {output}")
    return READOUTS[readout](x, f)


class EnergyNetwork(SmoothEnergy):
    """E(x) = scale readout(x, f(x)) + 1/2 ||x||^2 / confine^2 of a network f whose output is like x, or a scalar.

    Learning Energy-Based Models in High-Dimensional Spaces with Multi-scale Denoising Score Matching
    (Li et al., 2019), https://arxiv.org/abs/1910.07762; Salimans & Ho (2021), https://openreview.net/forum?id=9AS-TF2jRNb

    Args:
        net: the network f(x, time), like x, or (B,) for the readout scalar.
        process: the process whose noise at t = 0 the data have; null for clean data.
        readout: E is x^T f (product), 1/2 ||x - f||^2 (reconstruction), 1/2 ||f||^2 (norm) or f (scalar).
        confine: standard deviation of a Gaussian factor that makes exp(-E) integrable, > 0; null for none.
        constant: whether to learn a number that is added to E, for losses that estimate log Z.
        scale: factor of the readout, > 0; 1 / d makes means of its sums. Where f = 0, as at the start of a U-Net, the
            curvature of reconstruction is `scale`, and Langevin diverges for steps above 2 / scale.
    """

    def __init__(
        self,
        net: nn.Module,
        process: Process | None = None,
        readout: Literal["product", "reconstruction", "norm", "scalar"] = "reconstruction",
        confine: Positive | None = None,
        constant: bool = False,
        scale: Positive = 1.0,
    ) -> None:
        super().__init__(Clean() if process is None else process)
        self.net, self.readout, self.confine, self.scale = net, readout, confine, scale
        self.constant = nn.Parameter(torch.zeros(())) if constant else None

    def networks(self) -> list[nn.Module]:
        """The one network."""
        return [self.net]

    def energy(self, x: Tensor) -> Tensor:
        """E(x), nats, (B,)."""
        f = self.call(self.net, x, torch.zeros((), device=x.device, dtype=x.dtype))
        energy = self.scale * read(self.readout, x, f, self.net)
        energy = energy if self.confine is None else energy + norm(x, x / self.confine)
        return energy if self.constant is None else energy + self.constant

    def why_unnormalisable(self) -> str | None:
        """Why exp(-E) may not be integrable; None where it is, for any weights."""
        if self.confine is None:
            return "module.confine is null, so it has no confining term: set a length"
        growth = declared(self.net, "growth")  # "bounded": |f| < C; "linear": |f| < C (1 + |x|)
        if self.readout in ("reconstruction", "norm") or growth == "bounded":
            return None
        if self.readout == "scalar" and growth == "linear":
            return None
        return (
            f"{type(self.net).__name__} with the readout {self.readout} may outgrow the confining term: "
            "choose the readout reconstruction or norm"
        )


class SumOfEnergies(SmoothEnergy):
    """E(x) = sum_k E_k(x): the normalised product of the densities.

    Compositional visual generation with energy-based models (Du, Li & Mordatch, 2020), https://arxiv.org/abs/2004.06030

    Args:
        parts: at least 2 energies over the same support.
    """

    def __init__(self, *parts: Energy) -> None:
        super().__init__(Clean())
        if len(parts) < 2:
            raise ValueError(f"SumOfEnergies has {len(parts)} parts, expected at least 2 energies: add parts")
        if len({part.support for part in parts}) > 1:
            supports = ", ".join(f"{type(part).__name__} over {part.support}" for part in parts)
            raise ValueError(f"SumOfEnergies has parts {supports}, expected one support: choose parts over the same")
        self.support = parts[0].support
        self.parts = nn.ModuleList(parts)

    def energy(self, x: Tensor) -> Tensor:
        """E(x), nats, (B,)."""
        return sum(part.energy(x) for part in self.parts)

    def why_not_differentiable(self) -> str | None:
        """The first reason why a part has no second derivative; None where all have."""
        return next((why for part in self.parts if (why := part.why_not_differentiable())), None)

    def why_unnormalisable(self) -> str | None:
        """The first reason why a part may not be integrable; None where all are."""
        return next((why for part in self.parts if (why := part.why_unnormalisable())), None)

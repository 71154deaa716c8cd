"""Paths of annealed importance sampling: distributions from a tractable one to the model, and their transitions."""

import math
from abc import ABC, abstractmethod
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_gen.models import RBM, Energy, GaussianBernoulliRBM, Requires, SmoothEnergy, fits, why_unfit
from lightning_gen.process import Clean
from lightning_gen.randomness import bernoulli
from lightning_gen.samplers import HMC, MALA


def floored(variance: Tensor) -> Tensor:
    """Variances clipped from below at 1e-2 of the largest, since pixels that are always black have none."""
    return variance.clamp(min=1e-2 * float(variance.max()))


def softplus_difference(logits: Tensor, old: float, new: float) -> Tensor:
    """sum_j softplus(new logits_j) - softplus(old logits_j), (n,), a new tensor, by logits (n, H)."""
    return F.softplus(new * logits).sub_(F.softplus(old * logits)).sum(1)


class AnnealingPath(Requires, ABC):
    """Distributions p_beta from a tractable p_0 to the model p_1, with transitions T_beta that leave them invariant."""

    role = "annealed importance sampling by"
    tunable = False  # whether the transitions have a step size, and the path a method `tune`

    log_z0: float  # log Z at beta = 0, nats

    @classmethod
    @abstractmethod
    def between(cls, model: Energy, mean: Tensor, variance: Tensor, transition: MALA | HMC) -> Self:
        """The path from independent units with mean and variance, each (D,), to the model."""

    @abstractmethod
    def start(self, n: int, generator: torch.Generator) -> Tensor:
        """v ~ p_0, (n, ...)."""

    @abstractmethod
    def evaluate(self, v: Tensor) -> Any:
        """Terms of the energy at v that do not depend on beta, each (n,) or (n, ...)."""

    @abstractmethod
    def difference(self, parts: Any, old: float, new: float) -> Tensor:
        """E_old(v) - E_new(v) at two beta, nats, (n,), by `evaluate` at v."""

    @abstractmethod
    def move(self, v: Tensor, parts: Any, beta: float, generator: torch.Generator) -> tuple[Tensor, Any]:
        """v' ~ T_beta(v), reversible with respect to p_beta, (n, ...), and `evaluate` at v'."""

    def burn_in(self, v: Tensor, steps: int, generator: torch.Generator) -> Tensor:
        """v after `steps` transitions at beta = 1, (n, ...)."""
        parts = self.evaluate(v)
        for _ in range(steps):
            v, parts = self.move(v, parts, 1.0, generator)
        return v

    def describe(self) -> dict[str, Any]:
        """The transition, as a protocol stores it."""
        return {"transition": "Gibbs"}

    def reset_acceptance(self) -> None:
        """Reset the acceptance rate."""

    def acceptance(self) -> float | None:
        """Acceptance rate since the last reset, in [0, 1]; None without proposals."""
        return None


class RBMPath(AnnealingPath):
    """E_beta(v) = -((1 - beta) base + beta b)^T v - sum_j softplus(beta logits_j(v)), with Gibbs transitions.

    Salakhutdinov & Murray (2008), https://doi.org/10.1145/1390156.1390266

    Args:
        model: the RBM.
        base: biases of the independent visible units at beta = 0, (D,), best those of the data's marginals.
    """

    needs = (RBM,)
    supports = ("binary",)

    def __init__(self, model: RBM, base: Tensor) -> None:
        self.model, self.base = model, base.to(model.W)
        base = self.base.double()
        self.log_z0 = float(F.softplus(base).sum() + len(model.c) * math.log(2))

    @classmethod
    def between(cls, model: RBM, mean: Tensor, variance: Tensor, transition: MALA | HMC) -> Self:
        """The path from biases log(p / (1 - p)), p the mean clipped to [0.01, 0.99]."""
        return cls(model, torch.logit(mean.flatten().clamp(0.01, 0.99)))

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        return bernoulli(self.base.sigmoid().expand(n, -1), generator).view(n, *self.model.shape)

    def evaluate(self, v: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.logits(v), v.flatten(1) @ (self.model.b - self.base)

    def difference(self, parts: tuple[Tensor, ...], old: float, new: float) -> Tensor:
        logits, biases = parts
        return softplus_difference(logits, old, new).add_(biases, alpha=new - old)

    def move(
        self, v: Tensor, parts: tuple[Tensor, ...], beta: float, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        h = bernoulli((beta * parts[0]).sigmoid_(), generator)
        mean = torch.addmm(torch.lerp(self.base, self.model.b, beta), h, self.model.W.T, alpha=beta).sigmoid_()
        v = bernoulli(mean, generator).view_as(v)
        return v, self.evaluate(v)


class GaussianPath(AnnealingPath):
    """E_beta(v) = (1 - beta)/2 ||(v - mean)/s||^2 + beta/2 ||(v - mu)/sigma||^2 - sum_j softplus(beta logits_j(v)).

    The transitions are Gibbs sweeps.

    Args:
        model: the Gaussian-Bernoulli RBM.
        mean: mean of v at beta = 0, (D,), best that of the data.
        variance: s^2, (D,).
    """

    needs = (GaussianBernoulliRBM,)
    supports = ("real",)

    @classmethod
    def between(cls, model: GaussianBernoulliRBM, mean: Tensor, variance: Tensor, transition: MALA | HMC) -> Self:
        """The path from N(mean, variance), each variance at least 1e-2 of the largest."""
        return cls(model, mean.flatten(), floored(variance.flatten()))

    def __init__(self, model: GaussianBernoulliRBM, mean: Tensor, variance: Tensor) -> None:
        self.model, self.mean, self.variance = model, mean.to(model.W), variance.to(model.W)
        d = len(mean)
        self.log_z0 = float(
            0.5 * (d * math.log(2 * math.pi) + self.variance.double().log().sum()) + len(model.c) * math.log(2)
        )

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, len(self.mean), generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return (self.mean + self.variance.sqrt() * z).view(n, *self.model.shape)

    def evaluate(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, model = v.flatten(1), self.model
        squares = [
            0.5 * ((rows - m).square() / s).sum(1) for m, s in ((self.mean, self.variance), (model.mu, model.variance))
        ]
        return model.logits(v), *squares

    def difference(self, parts: tuple[Tensor, ...], old: float, new: float) -> Tensor:
        logits, base, target = parts
        return softplus_difference(logits, old, new).add_(base - target, alpha=new - old)

    def move(
        self, v: Tensor, parts: tuple[Tensor, ...], beta: float, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        model = self.model
        h = bernoulli((beta * parts[0]).sigmoid_(), generator)
        old, new = (1 - beta) / self.variance, beta / model.variance
        mean = (old * self.mean + new * torch.addmm(model.mu, h, model.W.T)) / (old + new)
        z = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        v = (mean + z / (old + new).sqrt()).view_as(v)
        return v, self.evaluate(v)


class Tempered(SmoothEnergy):
    """E_beta(x) = (1 - beta)/2 ||(x - mean)/s||^2 + beta E(x).

    Args:
        model: E, a differentiable energy.
        mean: mean at beta = 0, of the shape of x.
        variance: s^2, of the shape of x.
    """

    def __init__(self, model: SmoothEnergy, mean: Tensor, variance: Tensor) -> None:
        super().__init__(Clean())
        self.model, self.mean, self.variance, self.beta = model, mean, variance, 0.0

    def energy(self, x: Tensor) -> Tensor:
        base = 0.5 * ((x - self.mean).square() / self.variance).flatten(1).sum(1)
        return self.mixed(base, self.model.energy(x))

    def energy_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E_beta(x), nats, (B,), and its score, (B, ...), by one evaluation of E, kept in `parts`."""
        self.parts = self.evaluate(x)
        return self.mixed(self.parts[0], self.parts[2]), self.mixed(self.parts[1], self.parts[3])

    def evaluate(self, x: Tensor) -> tuple[Tensor, ...]:
        """Energy, (B,), and score, (B, ...), at beta = 0, then those of the model."""
        difference = x - self.mean
        base = 0.5 * (difference.square() / self.variance).flatten(1).sum(1)
        return base, -difference / self.variance, *self.model.energy_and_score(x)

    def mixed(self, base: Tensor, model: Tensor) -> Tensor:
        """(1 - beta) base + beta model, like both."""
        return (1 - self.beta) * base + self.beta * model


class EnergyPath(AnnealingPath):
    """From N(mean, variance) to a differentiable energy, by one MALA or HMC proposal per inverse temperature.

    Args:
        model: the energy.
        mean: mean at beta = 0, of the shape of the data.
        variance: variance at beta = 0, of the shape of the data.
        sampler: the proposals; its step size is used where `tune` has set none.
    """

    needs = (SmoothEnergy,)
    supports = ("real",)
    tunable = True

    def __init__(self, model: SmoothEnergy, mean: Tensor, variance: Tensor, sampler: MALA | HMC) -> None:
        self.tempered = Tempered(model, mean, variance)
        self.sampler, self.sizes = sampler, dict[float, float]()
        self.log_z0 = float(0.5 * (mean.numel() * math.log(2 * math.pi) + variance.double().log().sum()))
        self.reset_acceptance()

    @classmethod
    def between(cls, model: SmoothEnergy, mean: Tensor, variance: Tensor, transition: MALA | HMC) -> Self:
        """The path from N(mean, variance), each of the data's shape, each variance at least 1e-2 of the largest."""
        dtype = next((parameter.dtype for parameter in model.parameters()), mean.dtype)
        return cls(model, mean.to(dtype), floored(variance).to(dtype), transition)

    def tune(self, sizes: dict[float, float]) -> None:
        """Set the step size of each inverse temperature in (0, 1); that of the largest serves at 1, too."""
        self.sizes = sizes | {1.0: sizes[max(sizes)]}

    def describe(self) -> dict[str, Any]:
        """The transition, and the first and last step size if they were tuned."""
        sizes = [size for beta, size in sorted(self.sizes.items()) if beta < 1]
        return {"transition": self.sampler.describe()} | (
            {"step_sizes": sizes[:: len(sizes) - 1 or 1]} if sizes else {}
        )

    def burn_in(self, v: Tensor, steps: int, generator: torch.Generator) -> Tensor:
        """v after `steps` proposals at beta = 1, (n, ...), outside of the acceptance rate."""
        parts, size = self.evaluate(v), self.sizes.get(1.0, self.sampler.step_size)
        for _ in range(steps):
            v, parts, _ = self.propose(v, parts, 1.0, size, generator)
        return v

    def reset_acceptance(self) -> None:
        self.accepted, self.proposed = 0.0, 0

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        mean, variance = self.tempered.mean, self.tempered.variance
        z = torch.randn(n, *mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return mean + variance.sqrt() * z

    def evaluate(self, v: Tensor) -> tuple[Tensor, ...]:
        return self.tempered.evaluate(v)

    def difference(self, parts: tuple[Tensor, ...], old: float, new: float) -> Tensor:
        return (new - old) * (parts[0] - parts[2])

    def move(
        self, v: Tensor, parts: tuple[Tensor, ...], beta: float, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        v, parts, accepted = self.propose(v, parts, beta, self.sizes.get(beta, self.sampler.step_size), generator)
        self.accepted, self.proposed = self.accepted + accepted.mean(), self.proposed + 1
        return v, parts

    def propose(
        self, v: Tensor, parts: tuple[Tensor, ...], beta: float, size: float, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """v' by one proposal of this step size, (n, ...), `evaluate` at it, and acceptance as 0 or 1, (n,)."""
        tempered = self.tempered
        tempered.beta = beta
        energy, score = tempered.mixed(parts[0], parts[2]), tempered.mixed(parts[1], parts[3])
        carry = (energy, score, torch.zeros(len(v), device=v.device), 0)
        v, carry = self.sampler.step(tempered, v, self.sampler.proposal(size), carry, generator)
        accepted = carry[2]  # the acceptance rate of one proposal per chain, whose evaluation is tempered.parts
        wide = [accepted.bool().reshape(-1, *[1] * (old.ndim - 1)) for old in parts]
        parts = tuple(torch.where(*parts) for parts in zip(wide, tempered.parts, parts, strict=True))
        return v, parts, accepted

    def acceptance(self) -> float | None:
        return float(self.accepted) / self.proposed if self.proposed else None


def path_class(model: Energy) -> type[AnnealingPath]:
    """Class of the path for this model; TypeError where none fits."""
    for path in (RBMPath, GaussianPath, EnergyPath):
        if fits(path, model):
            return path
    raise TypeError(why_unfit(EnergyPath, model))


def annealing_path(model: Energy, mean: Tensor, variance: Tensor, transition: MALA | HMC) -> AnnealingPath:
    """The path for this model, from independent units with the data's mean and variance, each of the data's shape."""
    return path_class(model).between(model, mean, variance, transition)

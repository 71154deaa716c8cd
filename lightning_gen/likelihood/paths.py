"""The paths of annealed importance sampling: laws between a tractable one and a model's, each with a transition."""

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
    """Variances of at least 1e-2 of the largest: a pixel that is always black has none."""
    return variance.clamp(min=1e-2 * float(variance.max()))


class AnnealingPath(Requires, ABC):
    """The laws between a tractable one at beta = 0 and the model's at beta = 1, and a transition that keeps each."""

    role = "annealed importance sampling by"
    tunable = False  # whether its transition has a step size

    log_z0: float  # nats

    @classmethod
    @abstractmethod
    def between(cls, model: Energy, mean: Tensor, variance: Tensor, transition: MALA | HMC) -> Self:
        """The path from independent units with mean and variance, each (D,), to the model."""

    @abstractmethod
    def start(self, n: int, generator: torch.Generator) -> Tensor:
        """v ~ p_0, (n, ...)."""

    @abstractmethod
    def evaluate(self, v: Tensor) -> Any:
        """What energy and move need of v at any beta: the expensive part, once."""

    @abstractmethod
    def energy(self, v: Tensor, parts: Any, beta: float) -> Tensor:
        """E_beta(v), nats, (n,)."""

    @abstractmethod
    def move(self, v: Tensor, parts: Any, beta: float, generator: torch.Generator) -> tuple[Tensor, Any]:
        """v' ~ T_beta(v), which is reversible with respect to p_beta, (n, ...), and `evaluate` of it."""

    def settle(self, v: Tensor, steps: int, generator: torch.Generator) -> Tensor:
        """The ends of `steps` transitions at beta = 1 from v, (n, ...)."""
        parts = self.evaluate(v)
        for _ in range(steps):
            v, parts = self.move(v, parts, 1.0, generator)
        return v

    def tune(self, sizes: dict[float, float]) -> None:
        """Take a step size for each inverse temperature, where there are step sizes."""

    def describe(self) -> dict[str, Any]:
        """How it moves, as a protocol stores it."""
        return {"transition": "Gibbs"}

    def forget(self) -> None:
        """Count accepted proposals anew."""

    def acceptance(self) -> float | None:
        """The share of proposals taken so far, where there are proposals."""
        return None


class RBMPath(AnnealingPath):
    """From independent visible units of biases `base` (D,), which should be the data's marginals: two products a step.

    E_beta(v) = -((1 - beta) base + beta b)T v - sum_j softplus(beta logits_j); the transition is Gibbs'.
    """

    needs = (RBM,)
    supports = ("binary",)

    def __init__(self, model: RBM, base: Tensor) -> None:
        self.model, self.base = model, base.to(model.W)
        base = self.base.double()
        self.log_z0 = float(F.softplus(base).sum() + len(model.c) * math.log(2))

    @classmethod
    def between(cls, model: RBM, mean: Tensor, variance: Tensor, transition: MALA | HMC) -> Self:
        """From biases log p / (1 - p) of the mean, p held in [0.01, 0.99]."""
        return cls(model, torch.logit(mean.flatten().clamp(0.01, 0.99)))

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        return bernoulli(self.base.sigmoid().expand(n, -1), generator).view(n, *self.model.shape)

    def evaluate(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = v.flatten(1)
        return self.model.logits(v), rows @ self.base, rows @ self.model.b

    def energy(self, v: Tensor, parts: tuple[Tensor, ...], beta: float) -> Tensor:
        logits, base, bias = parts
        return -(1 - beta) * base - beta * bias - F.softplus(beta * logits).sum(1)

    def move(
        self, v: Tensor, parts: tuple[Tensor, ...], beta: float, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        h = bernoulli((beta * parts[0]).sigmoid(), generator)
        biases = (1 - beta) * self.base + beta * self.model.b
        mean = torch.addmm(biases, h, self.model.W.T, alpha=beta).sigmoid()
        v = bernoulli(mean, generator).view_as(v)
        return v, self.evaluate(v)


class GaussianPath(AnnealingPath):
    """From N(mean, variance), each (D,), the data's marginals, to a Gaussian-Bernoulli RBM; Gibbs' transition.

    E_beta(v) = (1 - beta)/2 ||(v - mean)/s||^2 + beta/2 ||(v - mu)/sigma||^2 - sum_j softplus(beta logits_j).
    """

    needs = (GaussianBernoulliRBM,)
    supports = ("real",)

    @classmethod
    def between(cls, model: GaussianBernoulliRBM, mean: Tensor, variance: Tensor, transition: MALA | HMC) -> Self:
        """From N(mean, variance), each variance at least 1e-2 of the largest."""
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

    def energy(self, v: Tensor, parts: tuple[Tensor, ...], beta: float) -> Tensor:
        logits, base, target = parts
        return (1 - beta) * base + beta * target - F.softplus(beta * logits).sum(1)

    def move(
        self, v: Tensor, parts: tuple[Tensor, ...], beta: float, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        model = self.model
        h = bernoulli((beta * parts[0]).sigmoid(), generator)
        old, new = (1 - beta) / self.variance, beta / model.variance
        mean = (old * self.mean + new * torch.addmm(model.mu, h, model.W.T)) / (old + new)
        z = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        v = (mean + z / (old + new).sqrt()).view_as(v)
        return v, self.evaluate(v)


class Tempered(SmoothEnergy):
    """E_beta(x) = (1 - beta)/2 ||(x - mean)/s||^2 + beta E(x); `parts` are those of where it was evaluated last."""

    def __init__(self, model: SmoothEnergy, mean: Tensor, variance: Tensor) -> None:
        super().__init__(Clean())
        self.model, self.mean, self.variance, self.beta = model, mean, variance, 0.0

    def energy(self, x: Tensor) -> Tensor:
        """E_beta(x), nats, (B,)."""
        base = 0.5 * ((x - self.mean).square() / self.variance).flatten(1).sum(1)
        return self.mixed(base, self.model.energy(x))

    def energy_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E_beta(x), nats, (B,), and its score, (B, ...), by one evaluation of E."""
        self.parts = self.evaluate(x)
        return self.mixed(self.parts[0], self.parts[2]), self.mixed(self.parts[1], self.parts[3])

    def evaluate(self, x: Tensor) -> tuple[Tensor, ...]:
        """Energy and score of the base, and of the model."""
        away = x - self.mean
        base = 0.5 * (away.square() / self.variance).flatten(1).sum(1)
        return base, -away / self.variance, *self.model.energy_and_score(x)

    def mixed(self, base: Tensor, model: Tensor) -> Tensor:
        """What they are at beta."""
        return (1 - self.beta) * base + self.beta * model


class EnergyPath(AnnealingPath):
    """From N(mean, variance), of the data's shape, to any energy, by one MALA or HMC proposal a temperature.

    `sizes` holds a step size for inverse temperatures; where it has none, the sampler's own is taken.
    """

    needs = (SmoothEnergy,)
    supports = ("real",)
    tunable = True

    def __init__(self, model: SmoothEnergy, mean: Tensor, variance: Tensor, sampler: MALA | HMC) -> None:
        self.tempered = Tempered(model, mean, variance)
        self.sampler, self.sizes = sampler, dict[float, float]()
        self.log_z0 = float(0.5 * (mean.numel() * math.log(2 * math.pi) + variance.double().log().sum()))
        self.forget()

    @classmethod
    def between(cls, model: SmoothEnergy, mean: Tensor, variance: Tensor, transition: MALA | HMC) -> Self:
        """From N(mean, variance), each variance at least 1e-2 of the largest, of the data's shape (mean's)."""
        dtype = next((parameter.dtype for parameter in model.parameters()), mean.dtype)
        return cls(model, mean.to(dtype), floored(variance).to(dtype), transition)

    def tune(self, sizes: dict[float, float]) -> None:
        """Take a step size for each inverse temperature between the ends; at the model itself that of the last."""
        self.sizes = sizes | {1.0: sizes[max(sizes)]}

    def describe(self) -> dict[str, Any]:
        """The transition, and the first and last step size where these were tuned."""
        sizes = [size for beta, size in sorted(self.sizes.items()) if beta < 1]
        return {"transition": self.sampler.describe()} | (
            {"step_sizes": sizes[:: len(sizes) - 1 or 1]} if sizes else {}
        )

    def settle(self, v: Tensor, steps: int, generator: torch.Generator) -> Tensor:
        """The ends of `steps` proposals at beta = 1 from v, (n, ...), which count for no acceptance."""
        parts, size = self.evaluate(v), self.sizes.get(1.0, self.sampler.step_size)
        for _ in range(steps):
            v, parts, _ = self.propose(v, parts, 1.0, size, generator)
        return v

    def forget(self) -> None:
        """Count accepted proposals anew."""
        self.taken, self.proposed = 0.0, 0

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        mean, variance = self.tempered.mean, self.tempered.variance
        z = torch.randn(n, *mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return mean + variance.sqrt() * z

    def evaluate(self, v: Tensor) -> tuple[Tensor, ...]:
        return self.tempered.evaluate(v)

    def energy(self, v: Tensor, parts: tuple[Tensor, ...], beta: float) -> Tensor:
        return (1 - beta) * parts[0] + beta * parts[2]

    def move(
        self, v: Tensor, parts: tuple[Tensor, ...], beta: float, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        v, parts, taken = self.propose(v, parts, beta, self.sizes.get(beta, self.sampler.step_size), generator)
        self.taken, self.proposed = self.taken + taken.mean(), self.proposed + 1
        return v, parts

    def propose(
        self, v: Tensor, parts: tuple[Tensor, ...], beta: float, size: float, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """v' by one proposal of this step size, `look` at it, and 1 for each proposal that was taken, (n,)."""
        tempered = self.tempered
        tempered.beta = beta
        energy, score = tempered.mixed(parts[0], parts[2]), tempered.mixed(parts[1], parts[3])
        carry = (energy, score, torch.zeros(len(v), device=v.device), 0)
        v, carry = self.sampler.step(tempered, v, self.sampler.proposal(size), carry, generator)
        taken = carry[2]  # by each chain's one proposal, at which the energy was looked at last
        wide = [taken.bool().reshape(-1, *[1] * (old.ndim - 1)) for old in parts]
        parts = tuple(torch.where(*parts) for parts in zip(wide, tempered.parts, parts, strict=True))
        return v, parts, taken

    def acceptance(self) -> float | None:
        return float(self.taken) / self.proposed if self.proposed else None


def path_class(model: Energy) -> type[AnnealingPath]:
    """The path that is made for this model; TypeError, one sentence, where there is none."""
    for path in (RBMPath, GaussianPath, EnergyPath):
        if fits(path, model):
            return path
    raise TypeError(why_unfit(EnergyPath, model))


def annealing_path(model: Energy, mean: Tensor, variance: Tensor, transition: MALA | HMC) -> AnnealingPath:
    """The path for this model from independent units with the data's mean and variance, of the data's shape."""
    return path_class(model).between(model, mean, variance, transition)

"""Annealed importance sampling: log Z of an energy, from both sides.

Along p_k = exp(-E_k) from a law of known constant (k = 0) to the model (k = K), v_1 ~ p_0, v_{k+1} ~ T_k(v_k), T_k
keeping p_k, log w = sum_k E_{k-1}(v_k) - E_k(v_k). Then E w = Z / Z_0, so E log(Z_0 mean w) <= log Z: a log-likelihood
that uses it is overstated, an upper bound in expectation. Backwards from an exact sample of the model the same sum
bounds log Z from above (Grosse et al., 2015); from any other start it is an estimate and no bound.
Annealed importance sampling (Neal, 2001), https://arxiv.org/abs/physics/9803008; for RBMs (Salakhutdinov & Murray,
2008), https://doi.org/10.1145/1390156.1390266; Sandwiching the marginal likelihood, https://arxiv.org/abs/1511.02543
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_gen.models import RBM, EnergyModel, GaussianBernoulliRBM
from lightning_gen.models.rbm import bernoulli, states
from lightning_gen.process import Clean
from lightning_gen.samplers import HMC, MALA


def temperatures(schedule: str | int) -> list[float]:
    """Inverse temperatures 0 = beta_0 < ... < beta_K = 1: K steps of equal size, or `salakhutdinov`, 14,500 of theirs.

    Those are 0:1/1000:0.5, 0.5:1/10000:0.9, 0.9:1/100000:1.
    """
    if schedule == "salakhutdinov":
        parts = ((500, 0.0, 0.5), (4000, 0.5, 0.9), (10000, 0.9, 1.0))
        return [a + (b - a) * i / n for n, a, b in parts for i in range(n)] + [1.0]
    if isinstance(schedule, str) or schedule < 1:
        raise ValueError(f"schedule is {schedule}: give salakhutdinov, or a number of equal steps from 1 on")
    return [i / schedule for i in range(schedule + 1)]


class Path(ABC):
    """The laws between a tractable one at beta = 0 and the model's at beta = 1, and a transition that keeps each."""

    log_z0: float  # nats

    @abstractmethod
    def start(self, n: int, generator: torch.Generator) -> Tensor:
        """v ~ p_0, (n, ...)."""

    @abstractmethod
    def look(self, v: Tensor) -> Any:
        """What energy and move need of v at any beta: the expensive part, once."""

    @abstractmethod
    def energy(self, v: Tensor, seen: Any, beta: float) -> Tensor:
        """E_beta(v), nats, (n,)."""

    @abstractmethod
    def move(self, v: Tensor, seen: Any, beta: float, generator: torch.Generator) -> tuple[Tensor, Any]:
        """v' ~ T_beta(v), which is reversible with respect to p_beta, (n, ...), and `look` at it."""

    def acceptance(self) -> float | None:
        """The share of proposals taken so far, where there are proposals."""
        return None


class RBMPath(Path):
    """From independent visible units of biases `base` (D,), which should be the data's marginals: two products a step.

    E_beta(v) = -((1 - beta) base + beta b)T v - sum_j softplus(beta field_j); the transition is Gibbs'.
    """

    def __init__(self, model: RBM, base: Tensor) -> None:
        self.model, self.base = model, base.to(model.W)
        base = self.base.double()
        self.log_z0 = float(F.softplus(base).sum() + len(model.c) * math.log(2))

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        return bernoulli(self.base.sigmoid().expand(n, -1), generator).view(n, *self.model.shape)

    def look(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = v.flatten(1)
        return self.model.field(v), rows @ self.base, rows @ self.model.b

    def energy(self, v: Tensor, seen: tuple[Tensor, ...], beta: float) -> Tensor:
        field, base, bias = seen
        return -(1 - beta) * base - beta * bias - F.softplus(beta * field).sum(1)

    def move(
        self, v: Tensor, seen: tuple[Tensor, ...], beta: float, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        h = bernoulli((beta * seen[0]).sigmoid(), generator)
        biases = (1 - beta) * self.base + beta * self.model.b
        mean = torch.addmm(biases, h, self.model.W.T, alpha=beta).sigmoid()
        v = bernoulli(mean, generator).view_as(v)
        return v, self.look(v)


class GaussianPath(Path):
    """From N(mean, variance), each (D,), the data's marginals, to a Gaussian-Bernoulli machine; Gibbs' transition.

    E_beta(v) = (1 - beta)/2 ||(v - mean)/s||^2 + beta/2 ||(v - mu)/sigma||^2 - sum_j softplus(beta field_j).
    """

    def __init__(self, model: GaussianBernoulliRBM, mean: Tensor, variance: Tensor) -> None:
        self.model, self.mean, self.variance = model, mean.to(model.W), variance.to(model.W)
        d = len(mean)
        self.log_z0 = float(
            0.5 * (d * math.log(2 * math.pi) + self.variance.double().log().sum()) + len(model.c) * math.log(2)
        )

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, len(self.mean), generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return (self.mean + self.variance.sqrt() * z).view(n, *self.model.shape)

    def look(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, model = v.flatten(1), self.model
        squares = [
            0.5 * ((rows - m).square() / s).sum(1) for m, s in ((self.mean, self.variance), (model.mu, model.variance))
        ]
        return model.field(v), *squares

    def energy(self, v: Tensor, seen: tuple[Tensor, ...], beta: float) -> Tensor:
        field, base, target = seen
        return (1 - beta) * base + beta * target - F.softplus(beta * field).sum(1)

    def move(
        self, v: Tensor, seen: tuple[Tensor, ...], beta: float, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        model = self.model
        h = bernoulli((beta * seen[0]).sigmoid(), generator)
        old, new = (1 - beta) / self.variance, beta / model.variance
        mean = (old * self.mean + new * torch.addmm(model.mu, h, model.W.T)) / (old + new)
        z = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        v = (mean + z / (old + new).sqrt()).view_as(v)
        return v, self.look(v)


class Tempered(EnergyModel):
    """E_beta(x) = (1 - beta)/2 ||(x - mean)/s||^2 + beta E(x); `seen` has both parts of where it was last looked at."""

    def __init__(self, model: EnergyModel, mean: Tensor, variance: Tensor) -> None:
        super().__init__(Clean())
        self.model, self.mean, self.variance, self.beta = model, mean, variance, 0.0

    def energy(self, x: Tensor) -> Tensor:
        """E_beta(x), nats, (B,)."""
        base = 0.5 * ((x - self.mean).square() / self.variance).flatten(1).sum(1)
        return self.mixed(base, self.model.energy(x))

    def energy_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E_beta(x), nats, (B,), and its score, (B, ...), by one evaluation of E."""
        self.seen = self.look(x)
        return self.mixed(self.seen[0], self.seen[2]), self.mixed(self.seen[1], self.seen[3])

    def look(self, x: Tensor) -> tuple[Tensor, ...]:
        """Energy and score of the base, and of the model."""
        away = x - self.mean
        base = 0.5 * (away.square() / self.variance).flatten(1).sum(1)
        return base, -away / self.variance, *self.model.energy_and_score(x)

    def mixed(self, base: Tensor, model: Tensor) -> Tensor:
        """What they are at beta."""
        return (1 - self.beta) * base + self.beta * model


class EnergyPath(Path):
    """From N(mean, variance), of the data's shape, to any energy, by one MALA or HMC proposal a temperature.

    `sizes` holds a step size for inverse temperatures; where it has none, the sampler's own is taken.
    """

    def __init__(self, model: EnergyModel, mean: Tensor, variance: Tensor, sampler: MALA | HMC) -> None:
        self.tempered = Tempered(model, mean, variance)
        self.sampler, self.sizes = sampler, dict[float, float]()
        self.log_z0 = float(0.5 * (mean.numel() * math.log(2 * math.pi) + variance.double().log().sum()))
        self.forget()

    def forget(self) -> None:
        """Count accepted proposals anew."""
        self.taken, self.proposed = 0.0, 0

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        mean, variance = self.tempered.mean, self.tempered.variance
        z = torch.randn(n, *mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return mean + variance.sqrt() * z

    def look(self, v: Tensor) -> tuple[Tensor, ...]:
        return self.tempered.look(v)

    def energy(self, v: Tensor, seen: tuple[Tensor, ...], beta: float) -> Tensor:
        return (1 - beta) * seen[0] + beta * seen[2]

    def move(
        self, v: Tensor, seen: tuple[Tensor, ...], beta: float, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        v, seen, taken = self.propose(v, seen, beta, self.sizes.get(beta, self.sampler.step_size), generator)
        self.taken, self.proposed = self.taken + taken.mean(), self.proposed + 1
        return v, seen

    def propose(
        self, v: Tensor, seen: tuple[Tensor, ...], beta: float, size: float, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """v' by one proposal of this step size, `look` at it, and 1 for each proposal that was taken, (n,)."""
        tempered = self.tempered
        tempered.beta = beta
        energy, score = tempered.mixed(seen[0], seen[2]), tempered.mixed(seen[1], seen[3])
        carry = (energy, score, torch.zeros(len(v), device=v.device), 0)
        v, carry = self.sampler.step(tempered, v, self.sampler.proposal(size), carry, generator)
        taken = carry[2]  # by each chain's one proposal, at which the energy was looked at last
        wide = [taken.bool().reshape(-1, *[1] * (old.ndim - 1)) for old in seen]
        seen = tuple(torch.where(*parts) for parts in zip(wide, tempered.seen, seen, strict=True))
        return v, seen, taken

    def acceptance(self) -> float | None:
        return float(self.taken) / self.proposed if self.proposed else None


@torch.no_grad()
def log_weights(
    path: Path,
    betas: list[float],
    v: Tensor,
    generator: torch.Generator,
    reverse: bool = False,
    progress: Callable[[], Any] | None = None,
) -> Tensor:
    """log w of each chain, nats, float64, (n,): forward from v ~ p_0, or in reverse from v ~ p_K.

    log Z is about log_z0 + log mean w forward, and log_z0 - log mean w in reverse. `progress` is called K times.
    """
    order = betas[::-1] if reverse else betas
    total, seen = torch.zeros(len(v), dtype=torch.float64, device=v.device), path.look(v)
    for k, (old, new) in enumerate(zip(order, order[1:], strict=False)):
        if k:
            v, seen = path.move(v, seen, old, generator)
        total += (path.energy(v, seen, old) - path.energy(v, seen, new)).double()
        if progress is not None:
            progress()
    return total


class Partition(NamedTuple):
    """log Z, its standard error, both in nats, and how many of the chains' weights count (ESS)."""

    log_z: float
    error: float
    ess: float


def partition(path: Path, weights: Tensor, reverse: bool = False) -> Partition:
    """What log weights (n,) say of log Z; the error is that of log mean w to first order."""
    n = len(weights)
    mean = float(torch.logsumexp(weights, 0)) - math.log(n)
    w = (weights - mean).exp()
    error = float(w.std() / n**0.5) if n > 1 else math.nan
    ess = float(w.sum().square() / w.square().sum())
    return Partition(path.log_z0 + (-mean if reverse else mean), error, ess)


@torch.no_grad()
def exact_samples(model: RBM | GaussianBernoulliRBM, n: int, generator: torch.Generator) -> Tensor:
    """Independent exact samples v, (n, *shape), through the listed states of one side; ValueError above 20 units."""
    device, dtype = model.W.device, model.W.dtype

    def choose(logits: Tensor) -> Tensor:
        return torch.multinomial(logits.softmax(0), n, replacement=True, generator=generator)

    if isinstance(model, GaussianBernoulliRBM):
        logits, means, _ = model.mixture()
        v = means[choose(logits)].to(dtype)
        return v.view(n, *model.shape) + model.spread(v, generator)
    if len(model.c) <= len(model.b):
        h = states(len(model.c), device)
        logits = h @ model.c.double() + F.softplus(model.b.double() + h @ model.W.double().T).sum(1)
        return model.sample_visible(h[choose(logits)].to(dtype), generator)
    v = states(len(model.b), device).to(dtype)
    logits = -model.energy(v.view(-1, *model.shape)).double()
    return v[choose(logits)].view(n, *model.shape)

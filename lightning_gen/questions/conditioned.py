"""Models of x given part of it, or given y = A x + sigma noise, and the chains that draw from them."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lightning_gen.models import Energy, LatentVariables, Scored, SmoothEnergy
from lightning_gen.process import Clean
from lightning_gen.questions.base import Answer
from lightning_gen.samplers import HMC, MALA, Langevin

GAIN = 0.1  # of the recursion for the step size

Operator = Callable[[Tensor], Tensor]


class Clamped(SmoothEnergy):
    """E(x) of known values and free ones; what the known coordinates of the argument are does not matter.

    They have a standard normal law of their own about the known values, so that a chain stays where it is.

    Args:
        model: E.
        x: the known values, (B, ...), and anything elsewhere.
        known: where they are, like x.
    """

    def __init__(self, model: SmoothEnergy, x: Tensor, known: Tensor) -> None:
        super().__init__(Clean())
        self.model, self.x, self.known = model, x, known

    def energy(self, x: Tensor) -> Tensor:
        """E(x), nats, (B,)."""
        away = torch.where(self.known, x - self.x, 0).flatten(1)
        return self.model.energy(torch.where(self.known, self.x, x)) + 0.5 * away.square().sum(1)


class ClampedScore(Scored):
    """The score of `Clamped`, for a model that has no energy.

    Args:
        model: the score.
        x: the known values, (B, ...), and anything elsewhere.
        known: where they are, like x.
    """

    def __init__(self, model: Scored, x: Tensor, known: Tensor) -> None:
        super().__init__(model.process)
        self.model, self.x, self.known = model, x, known

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """grad log p of the free coordinates, (B, ...)."""
        score = self.model.score(torch.where(self.known, self.x, x), t)
        return torch.where(self.known, self.x - x, score)


def conditional(model: Energy, rows: Tensor, i: int, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """log p of each value of the i-th of all given the others, up to a constant, nats, (B, K), and the values, (K,).

    Args:
        model: E over whole numbers below K.
        rows: x as rows, (B, D).
        i: the position.
        shape: of a batch of x, (B, ...).
    """
    values = torch.arange(model.support.levels, dtype=rows.dtype, device=rows.device)
    changed = rows.repeat_interleave(len(values), 0)
    changed[:, i] = values.repeat(len(rows))
    return -model.energy(changed.view(-1, *shape[1:])).view(len(rows), -1), values


def misfit(x: Tensor, y: Tensor, operator: Operator, sigma: float) -> Tensor:
    """||y - A x||^2 / (2 sigma^2), nats, (B,)."""
    return (y - operator(x)).square().sum(1) / (2 * sigma**2)


class Observed(SmoothEnergy):
    """E(x) + ||y - A x||^2 / (2 sigma^2): the energy of p(x|y), y = A x + sigma noise.

    Args:
        model: E.
        y: the observations, (B, m).
        operator: A, of x (B, ...) to (B, m).
        sigma: standard deviation of the noise in y, > 0.
    """

    def __init__(self, model: SmoothEnergy, y: Tensor, operator: Operator, sigma: float) -> None:
        super().__init__(Clean())
        self.model, self.y, self.operator, self.sigma = model, y, operator, sigma

    def energy(self, x: Tensor) -> Tensor:
        """-log p(x|y) up to a constant, nats, (B,)."""
        return self.model.energy(x) + misfit(x, self.y, self.operator, self.sigma)


class ObservedScore(Scored):
    """The score of `Observed`, for a model that has no energy.

    Args:
        model: the score.
        y, operator, sigma: those of Observed.
    """

    def __init__(self, model: Scored, y: Tensor, operator: Operator, sigma: float) -> None:
        super().__init__(model.process)
        self.model, self.y, self.operator, self.sigma = model, y, operator, sigma

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """grad log p(x|y), (B, ...)."""
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            (pull,) = torch.autograd.grad(misfit(at, self.y, self.operator, self.sigma).sum(), at)
        return self.model.score(x, t) - pull


class LatentEnergy(SmoothEnergy):
    """1/2 ||z||^2 + ||y - A g(z)||^2 / (2 sigma^2), g(z) = E[x|z]: the energy of z given y for x = g(z).

    Args:
        model: the decoder g.
        y, operator, sigma: those of Observed.
    """

    def __init__(self, model: LatentVariables, y: Tensor, operator: Operator, sigma: float) -> None:
        super().__init__(Clean())
        self.model, self.y, self.operator, self.sigma = model, y, operator, sigma

    def energy(self, x: Tensor) -> Tensor:
        """-log p(z|y) up to a constant, nats, (B,), of z = x, (B, L)."""
        fit = misfit(self.model.visible(x), self.y, self.operator, self.sigma)
        return 0.5 * x.square().sum(1) + fit


def metropolis(
    sampler: MALA | HMC, model: SmoothEnergy, x: Tensor, generator: torch.Generator, tune: bool = True
) -> Tensor:
    """The end of a chain from x, (B, ...); with `tune` its first half finds the step size of the best acceptance rate.

    In the second half the step size is fixed, so that the density is exactly invariant there.
    Optimal acceptance rates: Roberts & Rosenthal (1998), https://doi.org/10.1111/1467-9868.00123
    """
    log_size, carry = math.log(sampler.step_size), None
    for number in range(sampler.steps):
        x, carry = sampler.step(model, x, sampler.proposal(math.exp(log_size)), carry, generator)
        if tune and number < sampler.steps // 2:
            log_size += GAIN * (float(carry.acceptance.mean()) - sampler.optimal_acceptance)
            carry = carry._replace(proposals=0)  # the acceptance rate of the next proposal alone
    return x


def start_of(model: Energy, sampler: MALA | HMC, like: Tensor, generator: torch.Generator) -> Tensor:
    """Where a chain starts, like x: exact samples of the model where it has them, else the start of the sampler."""
    draw = model.draw(tuple(like.shape), generator) if model.tractable() else None
    return (sampler.start(model, tuple(like.shape), generator) if draw is None else draw).to(like)


class OneLevelLangevin(Answer):
    """Langevin steps by a score given what is known, at the model's one noise level; approximate, as its step size.

    Args:
        sampler: the chain; null for 1,000 steps of size 1e-3.
    """

    name = "Langevin"
    needs = (Scored,)
    supports = ("real",)

    def __init__(self, sampler: Langevin | None = None) -> None:
        self.sampler = Langevin(1000, 1e-3) if sampler is None else sampler

    def check(self, model: Scored) -> None:
        """ValueError for a model of several noise levels, whose data's density has no score of its own."""
        super().check(model)
        low, high = model.process.sigma(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
        if low != high:
            raise ValueError(f"a chain at one noise level needs one, got {type(model.process).__name__} with several")

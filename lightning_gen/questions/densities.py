"""What is the density at x: log p(x) with its kind and error, and the ratio of two densities."""

import copy
import math
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from lightning_gen.likelihood import (
    ODELikelihood,
    annealing_path,
    bounds,
    log_weights,
    partition,
    path_class,
    temperatures,
    tuned_steps,
)
from lightning_gen.likelihood.importance import log_weights as importance_weights
from lightning_gen.models import Encoded, Energy, Normalised, Scored
from lightning_gen.options import Count, UnitInterval
from lightning_gen.process import instant
from lightning_gen.questions.base import Answer
from lightning_gen.results.result import Kind
from lightning_gen.samplers import HMC, MALA

Several = Annotated[int, Ge(2)]
VELOCITY_TIME = 0.02


class LogProb(NamedTuple):
    """log p(x) of each x, or the logarithm of a ratio.

    Args:
        value: nats, float64, (B,).
        error: standard error, or the solver's error, nats, (B,); 0 for exact values.
        kind: exact, lower bound, upper bound (bounds hold in expectation) or estimate.
    """

    value: Tensor
    error: Tensor
    kind: Kind


def exactly(value: Tensor) -> LogProb:
    """Exact values, nats, (B,)."""
    return LogProb(value.double(), torch.zeros_like(value, dtype=torch.float64), "exact")


def mean_of(draws: Tensor, kind: Kind) -> LogProb:
    """The mean of draws (n, B), nats, and its standard error, NaN for one draw."""
    draws = draws.double()
    error = draws.std(0) / math.sqrt(len(draws)) if len(draws) > 1 else torch.full_like(draws[0], math.nan)
    return LogProb(draws.mean(0), error, kind)


class NormalisedLogProb(Answer):
    """log p(x) as the model knows it: exact for a density and for the probability of whole levels.

    A density of real numbers that dequantises whole levels bounds their probability from below, by the mean of
    log p(y) - log q(y|x). Flow++ (Ho et al., 2019), eq. 12, https://arxiv.org/abs/1902.00275

    Args:
        draws: dequantisations of each x, >= 1.
    """

    name = "own log p"
    needs = (Normalised,)

    def __init__(self, draws: Count = 10) -> None:
        self.draws = draws

    def __call__(self, model: Normalised, x: Tensor, generator: torch.Generator) -> LogProb:
        """log p(x), nats, (B,); ValueError for x between the levels that the model dequantises."""
        model.check_levels(x)
        if model.dequantisation == "none":
            return exactly(model.log_prob(x))
        rows = []
        for _ in range(self.draws):
            y, log_q = model.dequantise(x, generator)
            rows.append(model.log_prob(y) - log_q)
        return mean_of(torch.stack(rows), "lower bound")


class EnumeratedLogProb(Answer):
    """-E(x) - log Z with log Z as a sum over the states of one side of an RBM, at most 20 units: exact."""

    name = "enumeration"
    needs = (Energy,)

    def check(self, model: Energy) -> None:
        """ValueError for an energy whose log Z is not known."""
        super().check(model)
        if not model.tractable():
            raise ValueError("log Z is not known, which takes at most 20 units on a side")

    def __call__(self, model: Energy, x: Tensor, generator: torch.Generator) -> LogProb:
        """log p(x), nats, (B,)."""
        return exactly(-model.energy(x).double() - model.log_z())


class AnnealedLogProb(Answer):
    """-E(x) - log Z with log Z by annealed importance sampling: an upper bound in expectation.

    The error is that of log Z, the same for every x. Neal (2001), https://arxiv.org/abs/physics/9803008

    Args:
        chains: number of chains, >= 2.
        schedule: number of inverse temperatures, or salakhutdinov.
        base: mean and variance of the independent units at inverse temperature 0, each of the shape of a sample; null
            for those of x itself.
        transition: of an energy without hidden units, MALA or HMC; null for MALA with a tuned step size.
    """

    name = "AIS"
    needs = (Energy,)

    def __init__(
        self,
        chains: Several = 100,
        schedule: Literal["salakhutdinov"] | Count = 1000,
        base: tuple[Tensor, Tensor] | None = None,
        transition: MALA | HMC | None = None,
    ) -> None:
        self.chains, self.betas, self.base = chains, temperatures(schedule), base
        self.transition = MALA(1, 1e-2) if transition is None else transition

    def check(self, model: Energy) -> None:
        """TypeError for an energy without a path; ValueError for one that may not be integrable."""
        super().check(model)
        path_class(model)
        if why := model.why_unnormalisable():
            raise ValueError(f"exp(-E) has no likelihood: {why}")

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the base, each (...); ValueError for one x, which has no variance."""
        if self.base is not None:
            return tuple(part.to(x) for part in self.base)
        if len(x) < 2:
            raise ValueError(
                f"x has {len(x)} sample, expected 2 or more, whose moments are the base: give more, or a base"
            )
        return x.mean(0), x.var(0)

    def __call__(self, model: Energy, x: Tensor, generator: torch.Generator) -> LogProb:
        """log p(x), nats, (B,)."""
        path = annealing_path(model, *self.moments(x), self.transition)
        if path.tunable and len(self.betas) > 2:
            path.tune(tuned_steps(path, self.betas, min(50, self.chains), generator))
        z = partition(path, log_weights(path, self.betas, path.start(self.chains, generator), generator))
        value = -model.energy(x).double() - z.log_z
        return LogProb(value, torch.full_like(value, z.error), "upper bound")


class ImportanceLogProb(Answer):
    """log 1/K sum_k w_k, w_k = p(x|z_k) p(z_k) / q(z_k|x), z_k ~ q(z|x): a lower bound in expectation.

    The error is that of the mean of the weights, to first order. Burda et al. (2016), https://arxiv.org/abs/1509.00519

    Args:
        samples: K, >= 2.
    """

    name = "IWAE"
    needs = (Encoded,)

    def __init__(self, samples: Several = 500) -> None:
        self.samples = samples

    def __call__(self, model: Encoded, x: Tensor, generator: torch.Generator) -> LogProb:
        """log p(x), nats, (B,)."""
        log_w = importance_weights(model, x, self.samples, generator)
        value = bounds(log_w).iwae
        spread = (log_w - value[:, None]).exp().std(1)
        return LogProb(value, spread / math.sqrt(self.samples), "lower bound")


class ODELogProb(Answer):
    """log p(x) by the probability-flow ODE, of x with the noise of its first time: an estimate.

    With the exact trace the error is the difference from a coarser solution; with random directions it is the standard
    error over draws. Score SDE (Song et al., 2021), https://arxiv.org/abs/2011.13456

    Args:
        flow: the solver; null for that of ODELikelihood.
        draws: of the random directions, >= 2.
    """

    name = "ODE"
    needs = (Scored,)
    supports = ("real",)

    def __init__(self, flow: ODELikelihood | None = None, draws: Several = 4) -> None:
        self.flow, self.draws = ODELikelihood() if flow is None else flow, draws

    def check(self, model: Scored) -> None:
        """ValueError for a process whose noise does not grow."""
        super().check(model)
        self.flow.check(model)

    def __call__(self, model: Scored, x: Tensor, generator: torch.Generator) -> LogProb:
        """log p(x), nats, (B,)."""
        if not self.flow.is_exact(x[0].numel()):
            return mean_of(torch.stack([self.flow(model, x, generator)[0] for _ in range(self.draws)]), "estimate")
        coarser = copy.copy(self.flow)
        coarser.rtol, coarser.atol, coarser.steps = 10 * self.flow.rtol, 10 * self.flow.atol, -(-self.flow.steps // 2)
        value = self.flow(model, x, generator)[0]
        return LogProb(value, (value - coarser(model, x, generator)[0]).abs(), "estimate")


class EnergyRatio(Answer):
    """log p(a) / p(b) = E(b) - E(a), without Z: exact."""

    name = "energies"
    needs = (Energy,)

    def __call__(self, model: Energy, a: Tensor, b: Tensor) -> LogProb:
        """log p(a) / p(b), nats, (B,)."""
        return exactly(model.energy(b).double() - model.energy(a).double())


class LineIntegral(Answer):
    """log p(a) / p(b) = int_0^1 s(b + u (a - b)) . (a - b) du: an estimate, for a network may be no gradient.

    s is the score of data with the noise of a time, `score_of_data`.
    The error is the difference from half as many nodes of Gauss and Legendre's rule.

    Args:
        nodes: of the quadrature, >= 2.
        t: time of the score; null for that of `first_time`.
    """

    name = "line integral"
    needs = (Scored,)
    supports = ("real",)

    def __init__(self, nodes: Several = 64, t: UnitInterval | None = None) -> None:
        self.nodes, self.t = nodes, t

    def __call__(self, model: Scored, a: Tensor, b: Tensor) -> LogProb:
        """log p(a) / p(b), nats, (B,)."""
        t = first_time(model) if self.t is None else self.t
        fine, coarse = (self.integral(model, a, b, t, count) for count in (self.nodes, self.nodes // 2))
        return LogProb(fine, (fine - coarse).abs(), "estimate")

    def integral(self, model: Scored, a: Tensor, b: Tensor, t: float, count: int) -> Tensor:
        """The integral by `count` nodes, nats, (B,)."""
        from numpy.polynomial.legendre import leggauss

        total = torch.zeros(len(a), dtype=torch.float64, device=a.device)
        for node, weight in zip(*leggauss(count), strict=True):
            x = b + (1 + float(node)) / 2 * (a - b)
            total += float(weight) / 2 * (score_of_data(model, x, t) * (a - b)).flatten(1).double().sum(1)
        return total


def score_of_data(model: Scored, x: Tensor, t: float) -> Tensor:
    """alpha_t s_t(alpha_t x), (B, ...): the score of x_0 + (sigma_t / alpha_t) noise, in units of the data."""
    alpha = float(model.process.alpha(torch.tensor(t, dtype=torch.float64)))
    return alpha * model.score(alpha * x, instant(t, x))


def first_time(model: Scored) -> float:
    """The time of the score that stands for the data's: 0 for data without noise, or with noise of one level.

    Else the first with noise; of a velocity, whose error the score has 1 / t times, .02: at 1e-5 the score of a network
    trained on the rings was off by 600 times its own size, at .02 by a third of it.
    """
    low, high = model.process.sigma(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    if low == high:
        return 0.0
    first = ODELikelihood().first_time(model.process)
    return max(first, VELOCITY_TIME) if model.defined() == "velocity" else first

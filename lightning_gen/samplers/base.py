"""Samplers are values: they hold options, no model and no state. A sampler is a chain of transitions t -> s."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from lightning_gen.models import Model, Reading, Requires, Scored
from lightning_gen.models.base import combine
from lightning_gen.options import Checked
from lightning_gen.process import Process
from lightning_gen.randomness import Source, normal
from lightning_gen.samplers.grids import grid


@dataclass(frozen=True)
class Transition:
    """From time t to time s (s < t descends, s = t stays), with host scalars: the sampler's own, and the model's."""

    t: float
    s: float
    coefficients: tuple[float, ...] = ()
    evaluations: int = 1  # calls of the model that this step makes
    times: tuple[float, ...] = ()  # at which it makes them; empty: at t
    readings: tuple[Reading, ...] = ()  # the model's scalars at these times


class Denoising(Transition):
    """The last step: x becomes E[x_0 | x_t = x] (Tweedie), which is without noise."""


def with_readings(model: Scored, transitions: Sequence[Transition]) -> list[Transition]:
    """The transitions, each with the model's scalars at the times where it calls the model."""
    several = [transition.times or (transition.t,) for transition in transitions]
    unique = list(dict.fromkeys(t for times in several for t in times))
    readings = dict(zip(unique, model.readings(unique), strict=True))
    return [
        replace(transition, readings=tuple(readings[t] for t in times))
        for transition, times in zip(transitions, several, strict=True)
    ]


class Sampler(Checked, Requires, ABC):
    """One loop for all: a start, then step after step along `plan`, made once in float64 on the host."""

    role = "sampler"
    adaptive = False  # whether it chooses its steps by tolerances rtol and atol
    clip: Sequence[float] | None = None  # bounds that x_0 is held in
    temperature: float = 1.0  # of the density that its chains keep
    step_size: float | None = None  # of its proposals
    carries_logits = False  # whether its carry are the hidden units' logits at x
    by_row = False  # whether a sample depends on its own noise alone, all drawn by the functions of `randomness`

    @abstractmethod
    def plan(self, model: Model, shape: tuple[int, ...]) -> Sequence[Transition]:
        """The transitions in order, for x of `shape` = (B, ...)."""

    @abstractmethod
    def trajectory(self, model: Model, x: Tensor, generator: Source = None) -> Generator[Tensor, None, int]:
        """x itself, then x after each transition of `plan`, (B, ...); the return value counts the model's calls."""

    def start(self, model: Model, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Where the chain begins, `shape` = (B, ...): the model's prior, unless the sampler says otherwise."""
        return model.prior(shape, generator)

    def evaluations(self, model: Model, shape: tuple[int, ...]) -> int | None:
        """How often a trajectory calls the model; None where that depends on the samples (adaptive solvers)."""
        return sum(transition.evaluations for transition in self.plan(model, shape))

    def __call__(self, model: Model, x: Tensor, generator: Source = None) -> Tensor:
        """The end of the trajectory from x, (B, ...)."""
        for last in self.trajectory(model, x, generator):  # noqa: B007
            pass
        return last

    def draw(self, model: Model, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Samples of the model, `shape` = (B, ...)."""
        return self(model, self.start(model, shape, generator), generator)

    def with_options(self, **options: Any) -> Self:
        """A copy with other values of some options."""
        other = copy.copy(self)
        vars(other).update(options)
        return other

    def with_steps(self, steps: int) -> Self:
        """A copy that takes `steps` steps."""
        return self.with_options(steps=steps)

    def describe(self) -> dict[str, Any]:
        """Name and options: what a protocol stores."""
        return {"name": type(self).__name__, **vars(self)}


class Stepwise(Sampler):
    """A sampler whose every transition is one call of `step`."""

    @abstractmethod
    def step(
        self, model: Model, x: Tensor, transition: Transition, carry: Any, generator: Source
    ) -> tuple[Tensor, Any]:
        """x at t -> x at s, (B, ...), and what the next step needs to know."""

    def trajectory(self, model: Model, x: Tensor, generator: Source = None) -> Generator[Tensor, None, int]:
        """x itself, then x after each transition of `plan`, (B, ...); the return value counts the model's calls."""
        self.check(model)
        carry, evaluations = None, 0
        yield x
        for transition in self.plan(model, tuple(x.shape)):
            if isinstance(transition, Denoising):
                x = reading_of("denoise", model, x, transition.readings[0])
            else:
                x, carry = self.step(model, x, transition, carry, generator)
            evaluations += transition.evaluations
            yield x
        return evaluations


class ReverseDiffusion(Sampler):
    """A sampler that descends from t = 1 to the noise-free end of a process whose noise grows."""

    needs = (Scored,)
    supports = ("real",)
    by_row = True
    steps: int | Sequence[int] | None
    spacing: str = "trailing"
    t_end: float | None = None

    def check(self, model: Scored) -> None:
        """Refuse a model without a score, and a process without noise or of one level: TypeError."""
        super().check(model)
        ends = model.process.sigma(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
        if not ends[0] < ends[1]:
            kind = "Clean" if ends[1] == 0 else f"the one level sigma = {ends[1]:.4g}"
            raise TypeError(
                f"sampler {type(self).__name__} needs a process with noise that grows, got {kind}: "
                "choose a Markov chain sampler"
            )

    def times(self, process: Process) -> list[float]:
        """The grid: times with noise, and 0.0 for the noise-free end."""
        return grid(process, self.steps, self.spacing, self.t_end)

    def moments(self, process: Process) -> list[tuple[float, float, tuple[float, ...]]]:
        """t, s and (alpha_t, sigma_t, alpha_s, sigma_s, a, b^2) for each step, host scalars; the last has sigma_s = 0.

        a = alpha_t / alpha_s and b^2 = sigma_t^2 - a^2 sigma_s^2 are factor and variance of x_t given x_s.
        """
        times = torch.tensor(self.times(process), dtype=torch.float64)
        alpha, variance = process.alpha(times), process.variance(times)
        alpha[-1], variance[-1] = 1.0, 0.0  # of a VE, sigma(0) is sigma_min: the end is x_0 all the same
        rows = []
        for i in range(len(times) - 1):
            ratio = alpha[i] / alpha[i + 1]
            fresh = variance[i] - ratio.square() * variance[i + 1]
            row = (alpha[i], variance[i].sqrt(), alpha[i + 1], variance[i + 1].sqrt(), ratio, fresh)
            rows.append((times[i].item(), times[i + 1].item(), tuple(float(value) for value in row)))
        return rows


class StepwiseDiffusion(ReverseDiffusion, Stepwise):
    """A reverse diffusion that evaluates the model at times known beforehand: `plan` holds the model's scalars too."""

    @abstractmethod
    def transitions(self, process: Process) -> list[Transition]:
        """The transitions with the sampler's own coefficients alone."""

    def plan(self, model: Scored, shape: tuple[int, ...]) -> list[Transition]:
        """The transitions, each with the model's scalars at the times that it evaluates."""
        return with_readings(model, self.transitions(model.process))


def reading_of(quantity: str, model: Scored, x: Tensor, reading: Reading) -> Tensor:
    """denoise, noise or score of x, (B, ...), at the time of a reading."""
    a, b = getattr(reading, quantity)
    return combine((a, x), (b, model.output(x, reading)))


def noise_like(x: Tensor, generator: Source) -> Tensor:
    """z ~ N(0, I), like x."""
    return normal(x.shape, generator, x.device, x.dtype)

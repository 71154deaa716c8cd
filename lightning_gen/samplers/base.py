"""The base of samplers: each holds options alone, no model and no state, and plans a chain of transitions t -> s."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from lightning_gen.models import Model, Reading, Requires, Scored
from lightning_gen.models.score import combine
from lightning_gen.options import ARGUMENTS, Checked
from lightning_gen.process import Process
from lightning_gen.randomness import Source, noise_like
from lightning_gen.samplers.grids import grid


@dataclass(frozen=True)
class Transition:
    """One step from time t to time s, with its scalars on the host.

    Args:
        t: time before the step, in [0, 1].
        s: time after it, s < t in a reverse diffusion, s = t in a Markov chain.
        coefficients: the scalars of the sampler.
        evaluations: number of model evaluations in this step.
        times: the times of these evaluations; empty for t alone.
        readings: the scalars of the model at these times.
    """

    t: float
    s: float
    coefficients: tuple[float, ...] = ()
    evaluations: int = 1
    times: tuple[float, ...] = ()
    readings: tuple[Reading, ...] = ()


class Denoising(Transition):
    """A last step to E[x_0 | x_t = x], which is free of noise, by Tweedie's formula."""


def with_readings(model: Scored, transitions: Sequence[Transition]) -> list[Transition]:
    """The transitions, each with the model's scalars at the times of its evaluations."""
    times_of_each = [transition.times or (transition.t,) for transition in transitions]
    unique = list(dict.fromkeys(t for times in times_of_each for t in times))
    readings = dict(zip(unique, model.readings(unique), strict=True))
    return [
        replace(transition, readings=tuple(readings[t] for t in times))
        for transition, times in zip(transitions, times_of_each, strict=True)
    ]


class Sampler(Checked, Requires, ABC):
    """A sampler: a start, then the transitions of a plan, which is computed once in float64 on the host."""

    role = "sampler"
    adaptive = False  # whether tolerances rtol and atol choose its steps
    clip: Sequence[float] | None = None  # [low, high] to which x_0 is clipped
    temperature: float = 1.0  # T of the invariant density p^(1/T)
    steps: int | Sequence[int] | None = None  # a number of them, those of a discrete process, or null for all or none
    step_size: float | None = None  # of a proposal
    carries_logits = False  # whether its carry is the hidden units' logits at x
    independent = False  # whether each sample depends on its own noise alone, drawn by `randomness`

    @abstractmethod
    def plan(self, model: Model, shape: tuple[int, ...]) -> Sequence[Transition]:
        """The transitions in order, for x of `shape` = (B, ...)."""

    @abstractmethod
    def trajectory(self, model: Model, x: Tensor, generator: Source = None) -> Generator[Tensor, None, int]:
        """x itself, then x after each transition of `plan`, (B, ...); returns the number of model evaluations."""

    def start(self, model: Model, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """The start of the chain, `shape` = (B, ...): by default a draw of the model's prior."""
        return model.prior(shape, generator)

    def evaluations(self, model: Model, shape: tuple[int, ...]) -> int | None:
        """Number of model evaluations of a trajectory; None where it depends on the samples (adaptive solvers)."""
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
        """A copy with some options replaced."""
        other = copy.copy(self)
        vars(other).update(options)
        return other

    def with_steps(self, steps: int) -> Self:
        """A copy that takes `steps` steps."""
        return self.with_options(steps=steps)

    @property
    def word(self) -> str:
        """What the files of its samples are named by: its class, in small letters."""
        return type(self).__name__.lower()

    def describe(self) -> dict[str, Any]:
        """Name and options, for the protocol of a result."""
        return {"name": type(self).__name__} | {key: value for key, value in vars(self).items() if key != ARGUMENTS}


class Stepwise(Sampler):
    """A sampler whose every transition is one call of `step`."""

    @abstractmethod
    def step(
        self, model: Model, x: Tensor, transition: Transition, carry: Any, generator: Source
    ) -> tuple[Tensor, Any]:
        """x at s from x at t, (B, ...), and the carry for the next step."""

    def acceptance(self, carry: Any) -> Tensor | None:
        """Acceptance rate of each chain so far, (B,), from a step's carry; None without a Metropolis test."""
        return None

    def trajectory(self, model: Model, x: Tensor, generator: Source = None) -> Generator[Tensor, None, int]:
        """x itself, then x after each transition of `plan`, (B, ...); returns the number of model evaluations."""
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


class AffineSteps(Stepwise):
    """A sampler whose steps are keep x + pull q(x) + noise z, of coefficients (keep, pull, noise).

    q(x) = a x + b F is the model's `quantity`: denoise, noise or score. The factors of x are added on the host.
    """

    quantity = "score"

    def step(
        self, model: Scored, x: Tensor, transition: Transition, carry: None, generator: Source
    ) -> tuple[Tensor, None]:
        """x at s, (B, ...)."""
        keep, pull, noise = transition.coefficients
        a, b = getattr(transition.readings[0], self.quantity)
        terms = [(keep + pull * a, x), (pull * b, model.output(x, transition.readings[0]))]
        return combine(*terms, *([(noise, noise_like(x, generator))] if noise else [])), None


class ReverseDiffusion(Sampler):
    """A sampler from t = 1 down to data without noise, for a process whose noise grows with t."""

    needs = (Scored,)
    supports = ("real",)
    independent = True
    spacing: str = "trailing"
    t_end: float | None = None
    divides = True  # by alpha, so that the prior must hold something of the data

    def check(self, model: Scored) -> None:
        """TypeError for a model without a score, and for a process whose noise does not grow, or alpha(1) = 0."""
        super().check(model)
        if self.divides and model.process.alpha(torch.ones((), dtype=torch.float64)) == 0:
            raise TypeError(
                f"sampler {type(self).__name__} divides by alpha and needs a process with alpha(1) > 0, got "
                f"{type(model.process).__name__}: choose FlowODE, DDIM or Ancestral"
            )
        least, most = model.process.sigma(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
        if not least < most:
            kind = "Clean" if most == 0 else f"the one level sigma = {most:.4g}"
            raise TypeError(
                f"sampler {type(self).__name__} needs a process whose noise grows with t, got {kind}: "
                "choose a Markov chain sampler"
            )

    def times(self, process: Process) -> list[float]:
        """The times with noise, falling from 1, and then 0.0 for data without noise."""
        return grid(process, self.steps, self.spacing, self.t_end)

    def moments(self, process: Process) -> list[tuple[float, float, tuple[float, ...]]]:
        """t, s and (alpha_t, sigma_t, alpha_s, sigma_s, a, b^2) of each step; the last has sigma_s = 0.

        x_t given x_s is N(a x_s, b^2 I), with a = alpha_t / alpha_s and b^2 = sigma_t^2 - a^2 sigma_s^2.
        """
        times = torch.tensor(self.times(process), dtype=torch.float64)
        alpha, variance = process.alpha(times), process.variance(times)
        alpha[-1], variance[-1] = 1.0, 0.0  # a VE has sigma(0) = sigma_min, but the last step ends at x_0
        sigma, ratio = variance.sqrt(), alpha[:-1] / alpha[1:]
        fresh = variance[:-1] - ratio.square() * variance[1:]
        columns = torch.stack(
            [times[:-1], times[1:], alpha[:-1], sigma[:-1], alpha[1:], sigma[1:], ratio, fresh], dim=1
        )
        return [(t, s, tuple(row)) for t, s, *row in columns.tolist()]


class StepwiseDiffusion(ReverseDiffusion, Stepwise):
    """A reverse diffusion whose evaluation times are known in advance, so that `plan` has the model's scalars too."""

    @abstractmethod
    def transitions(self, process: Process) -> list[Transition]:
        """The transitions with the coefficients of the sampler, without the scalars of the model."""

    def plan(self, model: Scored, shape: tuple[int, ...]) -> list[Transition]:
        """The transitions, each with the model's scalars at the times of its evaluations."""
        return with_readings(model, self.transitions(model.process))


def reading_of(quantity: str, model: Scored, x: Tensor, reading: Reading) -> Tensor:
    """The `quantity` (denoise, noise or score) of x, (B, ...), at the time of a reading."""
    a, b = getattr(reading, quantity)
    return combine((a, x), (b, model.output(x, reading)))

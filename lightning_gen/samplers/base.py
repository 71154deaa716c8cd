"""Samplers are values: they hold options, no model and no state. A sampler is a chain of transitions t -> s."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_gen.models import ScoreModel
from lightning_gen.models.score import instant
from lightning_gen.process import Process
from lightning_gen.samplers.grids import grid


@dataclass(frozen=True)
class Transition:
    """From time t to time s (s < t descends, s = t stays), with the sampler's host scalars for this step."""

    t: float
    s: float
    coefficients: tuple[float, ...] = ()
    evaluations: int = 1  # calls of the model that this step makes


class Denoising(Transition):
    """The last step: x becomes E[x_0 | x_t = x] (Tweedie), which is without noise."""


class Sampler(ABC):
    """One loop for all: a start, then step after step along `plan`, made once in float64 on the host."""

    model_type: type[ScoreModel] = ScoreModel
    discrete = False  # whether it moves between 0 and 1, where a density has no score
    decodes = False  # whether it draws x given latent variables, of a model that knows no score of x

    def check(self, model: ScoreModel) -> None:
        """Raise TypeError or ValueError, in one sentence, for a model or process that this sampler cannot use."""
        if not isinstance(model, self.model_type):
            raise TypeError(
                f"sampler {type(self).__name__} needs a {self.model_type.__name__}, got {type(model).__name__}: "
                f"choose a sampler that is made for {type(model).__name__}"
            )
        if getattr(model, "scoreless", False) and not self.decodes:
            raise TypeError(
                f"sampler {type(self).__name__} needs a model with a score or with conditionals, and a "
                f"{type(model).__name__} has none: choose latent"
            )
        if getattr(model, "binary", False) and not self.discrete:
            raise TypeError(f"sampler {type(self).__name__} follows a score, and binary units have none: choose gibbs")

    @abstractmethod
    def plan(self, process: Process) -> Sequence[Transition]:
        """The transitions in order."""

    @abstractmethod
    def step(
        self, model: ScoreModel, x: Tensor, transition: Transition, carry: Any, generator: torch.Generator | None
    ) -> tuple[Tensor, Any]:
        """x at t -> x at s, (B, ...), and what the next step needs to know."""

    def start(self, model: ScoreModel, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Where the chain begins, `shape` = (B, ...): the model's prior, unless the sampler says otherwise."""
        return model.prior(shape, generator)

    def trajectory(
        self, model: ScoreModel, x: Tensor, generator: torch.Generator | None = None
    ) -> Generator[Tensor, None, int]:
        """x itself, then x after each transition of `plan`, (B, ...); the return value counts the model's calls."""
        self.check(model)
        carry, evaluations = None, 0
        yield x
        for transition in self.plan(model.process):
            if isinstance(transition, Denoising):
                x = model.denoise(x, instant(transition.t, x))
            else:
                x, carry = self.step(model, x, transition, carry, generator)
            evaluations += transition.evaluations
            yield x
        return evaluations

    def evaluations(self, process: Process) -> int | None:
        """How often a trajectory calls the model; None where that depends on the samples (adaptive solvers)."""
        return sum(transition.evaluations for transition in self.plan(process))

    def __call__(self, model: ScoreModel, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The end of the trajectory from x, (B, ...)."""
        for last in self.trajectory(model, x, generator):  # noqa: B007
            pass
        return last

    def draw(self, model: ScoreModel, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Samples of the model, `shape` = (B, ...)."""
        return self(model, self.start(model, shape, generator), generator)

    def describe(self) -> dict[str, Any]:
        """Name and options: what a protocol stores."""
        options = {k: v.describe() if isinstance(v, Sampler) else v for k, v in vars(self).items()}
        return {"name": type(self).__name__, **options}


class ReverseDiffusion(Sampler):
    """A sampler that descends from t = 1 to the noise-free end of a process whose noise grows."""

    steps: int | Sequence[int] | None
    spacing: str = "trailing"
    t_end: float | None = None

    def check(self, model: ScoreModel) -> None:
        """Refuse a process without noise, or of one level."""
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


def noise_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """z ~ N(0, I), like x."""
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)

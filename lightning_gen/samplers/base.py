"""Samplers are values: they hold options, no model and no state. A sampler is a chain of transitions t -> s."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_gen.models import ScoreModel
from lightning_gen.process import Process


@dataclass(frozen=True)
class Transition:
    """From time t to time s (s < t descends, s = t stays), with the sampler's host scalars for this step."""

    t: float
    s: float
    coefficients: tuple[float, ...] = ()
    evaluations: int = 1  # calls of the model that this step makes


class Sampler(ABC):
    """One loop for all: a start, then step after step along `plan`, made once in float64 on the host."""

    model_type: type[ScoreModel] = ScoreModel

    def check(self, model: ScoreModel) -> None:
        """Raise TypeError or ValueError, in one sentence, for a model or process that this sampler cannot use."""
        if not isinstance(model, self.model_type):
            raise TypeError(
                f"sampler {type(self).__name__} needs a {self.model_type.__name__}, got {type(model).__name__}: "
                f"choose a sampler that is made for {type(model).__name__}"
            )

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
        return {"name": type(self).__name__, **vars(self)}

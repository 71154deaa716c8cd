"""What a score answers: the score at x, and the mean of clean data given x with noise."""

import math

import torch
from torch import Tensor

from lightning_gen.models import Scored
from lightning_gen.process import expand, instant
from lightning_gen.questions.base import Answer
from lightning_gen.questions.densities import first_time


def check_time(model: Scored, t: float) -> None:
    """ValueError for a time at which the model has no score: without noise in a noising process, or other than 0."""
    first, process = first_time(model), type(model.process).__name__
    low, high = model.process.sigma(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    if low == high and t:
        raise ValueError(f"t is {t}, expected 0: the noise of {process} does not change with t")
    least = first if model.process.steps else 0.0
    if not least <= t <= 1 or (t == 0 and first > 0):
        known = f"{first:g} to 1" if least == first else f"above 0, to 1, such as {first:g}"
        raise ValueError(f"t is {t}, expected {known}, where {process} has a score to read: change t")


class ScoreAt(Answer):
    """grad log p_t(x), by the score of the model."""

    name = "score"
    needs = (Scored,)
    supports = ("real",)

    def __call__(self, model: Scored, x: Tensor, t: float | None) -> Tensor:
        """The score at time t, (B, ...); null for the time whose score stands for the data's."""
        t = first_time(model) if t is None else t
        check_time(model, t)
        return model.score(x, instant(t, x))


class DenoisedMean(Answer):
    """E[x_0 | x_0 + sigma noise = x], by Tweedie's formula at the time whose sigma_t / alpha_t is sigma."""

    name = "Tweedie"
    needs = (Scored,)
    supports = ("real",)

    def check(self, model: Scored) -> None:
        """ValueError for a model of data without noise."""
        super().check(model)
        if not model.process.prior_sigma > 0:
            raise ValueError("a model of data without noise knows nothing about noise")

    def __call__(self, model: Scored, x: Tensor, sigma: float) -> Tensor:
        """E[x_0 | x], (B, ...); sigma in units of the data, > 0."""
        times = instant(self.time(model, sigma), x)
        return model.denoise(expand(model.process.alpha(times), x) * x, times)

    def time(self, model: Scored, sigma: float) -> float:
        """The time of noise sigma; ValueError where there is none."""
        process = model.process
        level, last = process.sigma(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
        if level == last:
            if not math.isclose(level, sigma, rel_tol=1e-6):
                raise ValueError(f"sigma is {sigma}, expected {level:g}, the one level of noise of the model: write it")
            return 0.0
        t = float(process.time(torch.tensor(sigma**-2.0, dtype=torch.float64)))
        check_time(model, t)
        return t

"""Where a density is highest near x, and the most probable hidden units."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_gen.models import Conditionals, Energy, Scored
from lightning_gen.options import Count, Positive, UnitInterval
from lightning_gen.process import expand
from lightning_gen.questions.base import Answer
from lightning_gen.questions.conditioned import conditional
from lightning_gen.questions.densities import first_time, score_of_data


class Mode(NamedTuple):
    """A stationary point near each x.

    Args:
        x: the point, (B, ...).
        slope: ||grad log p|| at it, nats per unit of the data, (B,); of whole numbers the largest gain in log p by a
            change of one value, nats, not above 0 at a mode.
    """

    x: Tensor
    slope: Tensor


class Ascent(Answer):
    """x <- x + eta s(x) without noise, to a point where the score of data with the noise of a time is 0.

    Each sample has its eta: a step after which the score still points forward, s(x') . s(x) >= 0, is taken, and the
    next is twice as long; else it is tried again at half the length. A score is enough, no energy is needed. A sample
    stops where ||s|| is at most the tolerance.

    Args:
        steps: at most so many evaluations of the score, >= 1.
        step_size: the first eta, in squared units of the data, > 0.
        tolerance: of ||s||, nats per unit of the data, > 0.
        t: time of the score; null for that of `first_time`.
    """

    name = "ascent"
    needs = (Scored,)
    supports = ("real",)

    def __init__(
        self,
        steps: Count = 1000,
        step_size: Positive = 1e-3,
        tolerance: Positive = 1e-3,
        t: UnitInterval | None = None,
    ) -> None:
        self.steps, self.step_size, self.tolerance, self.t = steps, step_size, tolerance, t

    def __call__(self, model: Scored, x: Tensor) -> Mode:
        """The end of the ascent from each x."""
        t = first_time(model) if self.t is None else self.t
        eta, score = (
            torch.full((len(x),), self.step_size, dtype=x.dtype, device=x.device),
            score_of_data(model, x, t),
        )
        for _ in range(self.steps):
            if not (score.flatten(1).norm(dim=1) > self.tolerance).any():
                break
            moved = x + expand(eta, x) * score
            after = score_of_data(model, moved, t)
            forward = (after * score).flatten(1).sum(1) >= 0  # false where it is not finite
            moving = forward & (score.flatten(1).norm(dim=1) > self.tolerance)
            x, score = (torch.where(expand(moving, x).bool(), new, old) for new, old in ((moved, x), (after, score)))
            eta = torch.where(forward, 2 * eta, eta / 2)
        if not x.isfinite().all():
            raise ValueError(
                f"mode left the finite numbers: the density of {type(model).__name__} rises without end there. Start "
                "elsewhere, or train it with a confining term"
            )
        return Mode(x, score.flatten(1).norm(dim=1))


class ConditionalModes(Answer):
    """Each value in turn becomes the most probable one given all others, until none changes: a maximum over changes.

    A sweep costs K evaluations of E for each of the D values, K the number of levels.
    Iterated conditional modes (Besag, 1986), https://doi.org/10.1111/j.2517-6161.1986.tb01412.x

    Args:
        steps: at most so many sweeps over all values, >= 1.
    """

    name = "single changes"
    needs = (Energy,)
    supports = ("binary", "levels")

    def __init__(self, steps: Count = 100) -> None:
        self.steps = steps

    def __call__(self, model: Energy, x: Tensor) -> Mode:
        """The end of the ascent from each x."""
        rows = x.flatten(1).clone()
        for _ in range(self.steps):
            slope = rows.new_full((len(rows),), -torch.inf)
            for i in range(rows.shape[1]):
                gain, value = self.best(model, rows, i, x.shape)
                slope = torch.maximum(slope, gain)
                rows[:, i] = torch.where(gain > 0, value, rows[:, i])
            if not (slope > 0).any():
                break
        return Mode(rows.view(x.shape), slope)

    def best(self, model: Energy, rows: Tensor, i: int, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """The largest gain in log p by another i-th value, nats, (B,), and that value, (B,)."""
        log_p, values = conditional(model, rows, i, shape)
        now = values == rows[:, i, None]
        gain, index = torch.where(now, -torch.inf, log_p - log_p[now][:, None]).max(1)
        return gain, values[index]


class MostProbableHidden(Answer):
    """argmax_h p(h|v), exactly: h_j = 1 where its logit is above 0, for the h_j are independent given v."""

    name = "signs of the logits"
    needs = (Conditionals,)

    def __call__(self, model: Conditionals, v: Tensor) -> Tensor:
        """h, 0 or 1, (B, H)."""
        return (model.logits(v) > 0).to(v.dtype)

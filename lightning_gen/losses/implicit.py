"""Score matching without the data's score: by integration by parts, with the divergence of the model's score.

Both losses are for the density p_t of the model's process: of the data, or where sigma(t) > 0 of the noisy data.
Under torch.no_grad they return detached values.
"""

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from lightning_gen.losses.base import Loss
from lightning_gen.models import Scored
from lightning_gen.models.energy import twice_differentiable
from lightning_gen.options import Count, UnitInterval
from lightning_gen.process import instant
from lightning_gen.randomness import noise_like

MAX_DIMENSIONS = 1000  # of an exact trace


class ImplicitScoreMatching(Loss):
    """Base of both losses: x_t, and the score there with a graph to x_t.

    Args:
        t: time of the density p_t, in [0, 1].
    """

    needs = (Scored,)
    supports = ("real",)
    unshardable = "trains on the score's derivatives in x"

    def __init__(self, t: UnitInterval = 0.0) -> None:
        super().__init__()
        self.t = t

    def check(self, model: Scored) -> None:
        """TypeError for a model without a score, or whose score jumps: no derivative has the jumps."""
        super().check(model)
        if why := model.why_not_differentiable():
            raise TypeError(
                f"loss {type(self).__name__} needs the derivative of the score of {type(model).__name__}: {why}, or "
                "another loss, as DenoisingScoreMatching"
            )

    def forward(self, model: Scored, x: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of each sample, (B,)."""
        training = torch.is_grad_enabled()
        with torch.enable_grad():
            time = instant(self.t, x)
            if model.process.prior_sigma > 0:
                x = model.process.perturb(x, time, noise_like(x, generator))
            x = x.detach().requires_grad_()
            with twice_differentiable():
                score = model.score(x, time) + 0 * x  # a graph to x, where the score does not depend on it
            value = self.value(x, score, training, generator)
        return value if training else value.detach()

    @abstractmethod
    def value(self, x: Tensor, score: Tensor, create_graph: bool, generator: torch.Generator) -> Tensor:
        """Loss of each sample, (B,), from the score (B, ...) at x (B, ...)."""


class ExactScoreMatching(ImplicitScoreMatching):
    """1/2 ||s||^2 + tr(ds/dx), the trace by d vector-Jacobian products.

    Estimation of non-normalized statistical models by score matching (Hyvarinen, 2005), theorem 1,
    https://jmlr.org/papers/v6/hyvarinen05a.html
    """

    def forward(self, model: Scored, x: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of each sample, (B,); ValueError above 1,000 dimensions."""
        if x[0].numel() > MAX_DIMENSIONS:
            raise ValueError(
                f"ExactScoreMatching got x of {x[0].numel()} dimensions, expected at most {MAX_DIMENSIONS}: choose "
                "SlicedScoreMatching"
            )
        return super().forward(model, x, generator)

    def value(self, x: Tensor, score: Tensor, create_graph: bool, generator: torch.Generator) -> Tensor:
        """1/2 ||s||^2 + tr(ds/dx) of each sample, (B,)."""
        flat, trace = score.flatten(1), 0
        for i in range(flat.shape[1]):
            (row,) = torch.autograd.grad(flat[:, i].sum(), x, create_graph=create_graph, retain_graph=True)
            trace = trace + row.flatten(1)[:, i]
        return 0.5 * flat.square().sum(1) + trace


class SlicedScoreMatching(ImplicitScoreMatching):
    """v^T (ds/dx) v + 1/2 (v^T s)^2, averaged over random directions v with E[v v^T] = I.

    Sliced score matching (Song et al., 2019), eq. 7 and 8, https://arxiv.org/abs/1905.07088

    Args:
        projections: number of directions v per sample, >= 1.
        reduced_variance: whether 1/2 ||s||^2, its mean over v, replaces 1/2 (v^T s)^2.
        projection: distribution of v, rademacher or gaussian.
        t: time of the density p_t, in [0, 1].
    """

    def __init__(
        self,
        projections: Count = 1,
        reduced_variance: bool = True,
        projection: Literal["rademacher", "gaussian"] = "rademacher",
        t: UnitInterval = 0.0,
    ) -> None:
        super().__init__(t)
        self.projections, self.reduced_variance, self.projection = projections, reduced_variance, projection

    def value(self, x: Tensor, score: Tensor, create_graph: bool, generator: torch.Generator) -> Tensor:
        """The mean over the directions for each sample, (B,)."""
        total = 0
        for _ in range(self.projections):
            v = random_direction(x, generator, self.projection)
            projected = (v * score).flatten(1).sum(1)
            (row,) = torch.autograd.grad(projected.sum(), x, create_graph=create_graph, retain_graph=True)
            square = score.flatten(1).square().sum(1) if self.reduced_variance else projected.square()
            total = total + (v * row).flatten(1).sum(1) + 0.5 * square
        return total / self.projections


def random_direction(x: Tensor, generator: torch.Generator, distribution: str) -> Tensor:
    """A random direction v for each sample, E[v v^T] = I, (B, ...)."""
    v = noise_like(x, generator)
    return v if distribution == "gaussian" else torch.where(v < 0, -1.0, 1.0).to(x.dtype)

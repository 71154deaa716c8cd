"""Score matching without the data's score: by integration by parts, with the divergence of the model's score.

Both losses are for the density p_t of the model's process: of the data, or where sigma(t) > 0 of the noisy data.
Under torch.no_grad they return detached values.
"""

from typing import Literal

import torch
from torch import Tensor

from lightning_gen.losses.base import Loss
from lightning_gen.models import Scored
from lightning_gen.models.energy import twice_differentiable
from lightning_gen.options import Count, UnitInterval
from lightning_gen.process import instant

MAX_DIMENSIONS = 1000  # of an exact trace


def noised(model: Scored, x: Tensor, generator: torch.Generator, t: float) -> tuple[Tensor, Tensor]:
    """x_t as a leaf that requires gradients, (B, ...), and t, (B,); a process without noise draws none."""
    time = instant(t, x)
    if model.process.prior_sigma > 0:
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        x = model.process.perturb(x, time, noise)
    return x.detach().requires_grad_(), time


class ExactScoreMatching(Loss):
    """1/2 ||s||^2 + tr(ds/dx), the trace by d vector-Jacobian products.

    Estimation of non-normalized statistical models by score matching (Hyvarinen, 2005), theorem 1,
    https://jmlr.org/papers/v6/hyvarinen05a.html

    Args:
        t: time of the density p_t, in [0, 1].
    """

    needs = (Scored,)
    supports = ("real",)

    def __init__(self, t: UnitInterval = 0.0) -> None:
        super().__init__()
        self.t = t

    def forward(self, model: Scored, x: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of each sample, (B,); ValueError above 1,000 dimensions."""
        if x[0].numel() > MAX_DIMENSIONS:
            raise ValueError(
                f"ExactScoreMatching got x of {x[0].numel()} dimensions, expected at most {MAX_DIMENSIONS}: choose "
                "SlicedScoreMatching"
            )
        training = torch.is_grad_enabled()
        with torch.enable_grad():
            x, time = noised(model, x, generator, self.t)
            score = differentiable_score(model, x, time)
            flat, trace = score.flatten(1), 0
            for i in range(flat.shape[1]):
                (row,) = torch.autograd.grad(flat[:, i].sum(), x, create_graph=training, retain_graph=True)
                trace = trace + row.flatten(1)[:, i]
            value = 0.5 * flat.square().sum(1) + trace
        return value if training else value.detach()


class SlicedScoreMatching(Loss):
    """v^T (ds/dx) v + 1/2 (v^T s)^2, averaged over random directions v with E[v v^T] = I.

    Sliced score matching (Song et al., 2019), eq. 7 and 8, https://arxiv.org/abs/1905.07088

    Args:
        projections: number of directions v per sample, >= 1.
        reduced_variance: whether 1/2 ||s||^2, its mean over v, replaces 1/2 (v^T s)^2.
        projection: distribution of v, rademacher or gaussian.
        t: time of the density p_t, in [0, 1].
    """

    needs = (Scored,)
    supports = ("real",)

    def __init__(
        self,
        projections: Count = 1,
        reduced_variance: bool = True,
        projection: Literal["rademacher", "gaussian"] = "rademacher",
        t: UnitInterval = 0.0,
    ) -> None:
        super().__init__()
        self.projections, self.reduced_variance, self.projection, self.t = projections, reduced_variance, projection, t

    def forward(self, model: Scored, x: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of each sample, (B,)."""
        training = torch.is_grad_enabled()
        with torch.enable_grad():
            noisy, time = noised(model, x, generator, self.t)
            score, total = differentiable_score(model, noisy, time), 0
            for _ in range(self.projections):
                v = random_direction(x, generator, self.projection)
                projected = (v * score).flatten(1).sum(1)
                (row,) = torch.autograd.grad(projected.sum(), noisy, create_graph=training, retain_graph=True)
                square = score.flatten(1).square().sum(1) if self.reduced_variance else projected.square()
                total = total + (v * row).flatten(1).sum(1) + 0.5 * square
            value = total / self.projections
        return value if training else value.detach()


def differentiable_score(model: Scored, x: Tensor, t: Tensor) -> Tensor:
    """s(x, t) with a graph to x that can be differentiated twice, also where the score does not depend on x."""
    with twice_differentiable():
        return model.score(x, t) + 0 * x


def random_direction(x: Tensor, generator: torch.Generator, distribution: str) -> Tensor:
    """A random direction v for each sample, E[v v^T] = I, (B, ...)."""
    v = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return v if distribution == "gaussian" else torch.where(v < 0, -1.0, 1.0).to(x.dtype)

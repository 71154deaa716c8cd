"""Score matching without the data's score: integration by parts leaves the model's own divergence.

Both are of the density at the time t of the model's process: of the data, or, where sigma(t) > 0, of the noised data.
They take gradients in x under no_grad too, and then give plain values.
"""

from typing import Literal

import torch
from torch import Tensor

from lightning_gen.losses.base import Loss
from lightning_gen.models import Scored
from lightning_gen.models.energy import twice_differentiable
from lightning_gen.options import Count, UnitInterval
from lightning_gen.process import instant

LARGEST = 1000  # dimensions of an exact trace


def noised(model: Scored, x: Tensor, generator: torch.Generator, t: float) -> tuple[Tensor, Tensor]:
    """x_t as a leaf that takes gradients, and t, (B,); no noise is drawn where there is none."""
    time = instant(t, x)
    if model.process.prior_sigma > 0:
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        x = model.process.perturb(x, time, noise)
    return x.detach().requires_grad_(), time


class ExactScoreMatching(Loss):
    """1/2 ||s||^2 + tr grad s, the trace by d vector-Jacobian products; nats, (B,).

    Estimation of non-normalized statistical models by score matching (Hyvarinen, 2005, theorem 1),
    https://jmlr.org/papers/v6/hyvarinen05a.html
    """

    needs = (Scored,)
    supports = ("real",)

    def __init__(self, t: UnitInterval = 0.0) -> None:
        super().__init__()
        self.t = t

    def forward(self, model: Scored, x: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of each sample, (B,); ValueError above 1,000 dimensions."""
        if x[0].numel() > LARGEST:
            raise ValueError(
                f"ExactScoreMatching needs at most {LARGEST} dimensions, got {x[0].numel()}: take SlicedScoreMatching"
            )
        training = torch.is_grad_enabled()
        with torch.enable_grad():
            x, time = noised(model, x, generator, self.t)
            score = attached(model, x, time)
            flat, trace = score.flatten(1), 0
            for i in range(flat.shape[1]):
                (row,) = torch.autograd.grad(flat[:, i].sum(), x, create_graph=training, retain_graph=True)
                trace = trace + row.flatten(1)[:, i]
            value = 0.5 * flat.square().sum(1) + trace
        return value if training else value.detach()


class SlicedScoreMatching(Loss):
    """v^T grad s v + 1/2 (v^T s)^2, or with 1/2 ||s||^2, its mean over v, in its place; mean over `projections`, (B,).

    Sliced score matching (Song et al., 2019, eq. 7 and 8), https://arxiv.org/abs/1905.07088
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
        """The loss of each sample, (B,)."""
        training = torch.is_grad_enabled()
        with torch.enable_grad():
            noisy, time = noised(model, x, generator, self.t)
            score, total = attached(model, noisy, time), 0
            for _ in range(self.projections):
                v = probe(x, generator, self.projection)
                along = (v * score).flatten(1).sum(1)
                (row,) = torch.autograd.grad(along.sum(), noisy, create_graph=training, retain_graph=True)
                square = score.flatten(1).square().sum(1) if self.reduced_variance else along.square()
                total = total + (v * row).flatten(1).sum(1) + 0.5 * square
            value = total / self.projections
        return value if training else value.detach()


def attached(model: Scored, x: Tensor, t: Tensor) -> Tensor:
    """s(x, t) with a graph to x that can be differentiated twice, also where the score does not depend on x."""
    with twice_differentiable():
        return model.score(x, t) + 0 * x


def probe(x: Tensor, generator: torch.Generator, law: str) -> Tensor:
    """A random direction v for each row, E[v v^T] = I, like x."""
    v = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return v if law == "gaussian" else torch.where(v < 0, -1.0, 1.0).to(x.dtype)

"""A data law whose every noised score is known: N(mean, cov)."""

import torch
from torch import Tensor

from lightning_gen.models import ScoreModel
from lightning_gen.process import VE, VP, DiscreteVP, Process, SubVP, cosine_betas, linear_betas

PROCESSES = {
    "vp": VP,
    "subvp": SubVP,
    "ve": VE,
    "ve from zero": lambda: VE(start="zero"),
    "discrete linear": lambda: DiscreteVP(linear_betas(1000)),
    "discrete cosine": lambda: DiscreteVP(cosine_betas(100)),
}


class Gaussian(ScoreModel):
    """The exact model of data N(mean, cov): x_t ~ N(alpha mean, alpha^2 cov + sigma^2 I)."""

    def __init__(self, process: Process, mean: Tensor, cov: Tensor) -> None:
        super().__init__(process)
        self.mean, self.cov = mean.double(), cov.double()

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """-(alpha^2 cov + sigma^2 I)^-1 (x - alpha mean), (B, d)."""
        t = t.double().expand(len(x))
        alpha, variance = self.process.alpha(t), self.process.variance(t)
        total = alpha[:, None, None] ** 2 * self.cov + variance[:, None, None] * torch.eye(len(self.mean)).double()
        return -torch.linalg.solve(total, x.double() - alpha[:, None] * self.mean)


def example(d: int = 2) -> tuple[Tensor, Tensor]:
    """A mean and a covariance with correlations."""
    g = torch.Generator().manual_seed(5)
    root = torch.randn(d, d, generator=g, dtype=torch.float64)
    return torch.randn(d, generator=g, dtype=torch.float64), root @ root.T / d + 0.1 * torch.eye(d).double()

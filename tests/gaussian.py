"""Data distributions with known scores at every noise level: N(mean, cov), and a mixture of Gaussians."""

import torch
from torch import Tensor

from lightning_gen.models import Scored
from lightning_gen.process import VE, VP, DiscreteVP, Process, SubVP, cosine_betas, linear_betas

PROCESSES = {
    "vp": VP,
    "subvp": SubVP,
    "ve": VE,
    "ve from zero": lambda: VE(start="zero"),
    "discrete linear": lambda: DiscreteVP(linear_betas(1000)),
    "discrete cosine": lambda: DiscreteVP(cosine_betas(100)),
}

QUANTITIES = {
    "score": lambda model, x, t: model.score(x, t),
    "noise": lambda model, x, t: model.noise(x, t),
    "denoise": lambda model, x, t: model.denoise(x, t),
}


class Gaussian(Scored):
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


class Mixture(Scored):
    """The exact model of a mixture of N(m_k, spread^2 I) in the plane, with unequal weights."""

    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self.weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
        self.means = torch.tensor([[-1.0, -0.6], [1.2, -0.4], [0.1, 1.1]], dtype=torch.float64)
        self.spread = 0.3

    def log_density(self, x: Tensor, t: Tensor) -> Tensor:
        """log p_t(x), nats, (B,)."""
        t = t.double().expand(len(x))
        alpha, variance = self.process.alpha(t), self.process.variance(t)
        total = (alpha**2 * self.spread**2 + variance)[:, None]
        squares = (x[:, None] - alpha[:, None, None] * self.means).square().sum(2)
        return (self.weights.log() - squares / (2 * total) - (2 * torch.pi * total).log()).logsumexp(1)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """sum_k p(k | x) (alpha m_k - x) / (alpha^2 spread^2 + sigma^2), (B, 2)."""
        x, t = x.double(), t.double().expand(len(x))
        alpha, variance = self.process.alpha(t), self.process.variance(t)
        total = (alpha**2 * self.spread**2 + variance)[:, None]
        away = alpha[:, None, None] * self.means - x[:, None]
        shares = (self.weights.log() - away.square().sum(2) / (2 * total)).softmax(1)
        return (shares[:, :, None] * away).sum(1) / total

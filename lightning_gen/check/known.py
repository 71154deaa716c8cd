"""Densities that are known exactly, to hold samplers against: a Gaussian and a mixture, with noise or none."""

import math

import torch
from torch import Tensor, nn

from lightning_gen.models import Normalised, Scored, SmoothEnergy
from lightning_gen.process import Clean, Process


def outer(numbers: Tensor, matrix: Tensor) -> Tensor:
    """Each of the numbers (B,) times the matrix (m, n), (B, m, n)."""
    return torch.einsum("b,mn->bmn", numbers, matrix)


class Gaussian(Scored):
    """The exact model of data N(mean, cov): x_t ~ N(alpha mean, alpha^2 cov + sigma^2 I).

    Mean and covariance are parameters, which are not trained unless requires_grad_() asks for it.

    Args:
        process: the noising process.
        mean: (d,).
        cov: (d, d).
    """

    def __init__(self, process: Process, mean: Tensor, cov: Tensor) -> None:
        super().__init__(process)
        self.mean = nn.Parameter(mean.double(), requires_grad=False)
        self.cov = nn.Parameter(cov.double(), requires_grad=False)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """-(alpha^2 cov + sigma^2 I)^-1 (x - alpha mean), (B, d)."""
        t = t.double().expand(len(x))
        alpha, variance = self.process.alpha(t), self.process.variance(t)
        total = outer(alpha**2, self.cov) + outer(variance, torch.eye(len(self.mean)).double())
        return -torch.linalg.solve(total, x.double() - alpha[:, None] * self.mean)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p of data without noise, nats, (B,)."""
        away = x.double() - self.mean
        squares = (away * torch.linalg.solve(self.cov, away.T).T).sum(1)
        return -0.5 * (squares + torch.linalg.slogdet(2 * math.pi * self.cov).logabsdet)

    @torch.no_grad()
    def clean(self, n: int, generator: torch.Generator) -> Tensor:
        """Data, (n, d), exactly."""
        z = torch.randn(n, len(self.mean), generator=generator, dtype=torch.float64)
        return self.mean + z @ torch.linalg.cholesky(self.cov).T


def example(d: int = 2) -> tuple[Tensor, Tensor]:
    """A mean and a covariance with correlations."""
    g = torch.Generator().manual_seed(5)
    root = torch.randn(d, d, generator=g, dtype=torch.float64)
    return torch.randn(d, generator=g, dtype=torch.float64), root @ root.T / d + 0.1 * torch.eye(d).double()


class Mixture(Scored):
    """The exact model of a mixture of N(m_k, spread^2 I) in the plane, with unequal weights.

    Args:
        process: the noising process.
    """

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
        squares = (x[:, None] - outer(alpha, self.means)).square().sum(2)
        return (self.weights.log() - squares / (2 * total) - (2 * torch.pi * total).log()).logsumexp(1)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """sum_k p(k | x) (alpha m_k - x) / (alpha^2 spread^2 + sigma^2), (B, 2)."""
        x, t = x.double(), t.double().expand(len(x))
        alpha, variance = self.process.alpha(t), self.process.variance(t)
        total = (alpha**2 * self.spread**2 + variance)[:, None]
        away = outer(alpha, self.means) - x[:, None]
        shares = (self.weights.log() - away.square().sum(2) / (2 * total)).softmax(1)
        return (shares[:, :, None] * away).sum(1) / total

    def log_prob(self, x: Tensor) -> Tensor:
        """log p of data without noise, nats, (B,)."""
        squares = (x.double()[:, None] - self.means).square().sum(2) / self.spread**2
        return (self.weights.log() - squares / 2 - math.log(2 * math.pi * self.spread**2)).logsumexp(1)

    def clean(self, n: int, generator: torch.Generator) -> Tensor:
        """Data, (n, 2), exactly."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        return self.means[k] + self.spread * torch.randn(n, 2, generator=generator, dtype=torch.float64)


class Density(Normalised, SmoothEnergy):
    """The density of a Gaussian's or a mixture's data without noise, with all that can be asked of one.

    Args:
        truth: with log_prob and clean.
    """

    def __init__(self, truth: Gaussian | Mixture) -> None:
        super().__init__(Clean())
        self.truth = truth

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), nats, (B,)."""
        return self.truth.log_prob(x)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """x ~ p, (B, 2)."""
        return self.truth.clean(shape[0], generator)

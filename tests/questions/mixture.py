"""A mixture of Gaussians, and its exact law given y = A x + sigma noise."""

import torch

from lightning_gen.models import SmoothEnergy
from lightning_gen.process import Clean
from tests.gaussian import Mixture


class MixtureEnergy(SmoothEnergy):
    """-log p of tests.gaussian.Mixture without noise."""

    def __init__(self):
        super().__init__(Clean())
        self.mixture = Mixture(Clean())

    def energy(self, x):
        """(B,)."""
        return -self.mixture.log_density(x, torch.zeros((), dtype=torch.float64))


class Conditional:
    """sum_k w_k N(means_k, cov) given y = A x + sigma noise, sigma >= 0: weights (K,), means (K, d), cov (d, d)."""

    def __init__(self, weights, means, cov, A, y, sigma=0.0):
        S = A @ cov @ A.T + sigma**2 * torch.eye(len(A)).double()
        gain = torch.linalg.solve(S, A @ cov).T
        away = y - means @ A.T
        fit = torch.distributions.MultivariateNormal(torch.zeros(len(A)).double(), S).log_prob(away)
        self.weights = (weights.log() + fit).softmax(0)
        self.means, self.cov = means + away @ gain.T, cov - gain @ A @ cov

    def mean(self):
        """E x, (d,)."""
        return self.weights @ self.means

    def second(self):
        """E x xT, (d, d)."""
        return self.cov + torch.einsum("k,ki,kj->ij", self.weights, self.means, self.means)


def z_scores(x, law):
    """How many standard errors the first and second moments of independent draws x (n, d) are off, where they vary."""
    products = torch.cat([x, (x[:, :, None] * x[:, None]).flatten(1)], 1)
    expected = torch.cat([law.mean(), law.second().flatten()])
    error = products.std(0) / len(x) ** 0.5
    varies = error > 1e-6
    assert varies.any()
    assert torch.allclose(products.mean(0)[~varies], expected[~varies], atol=1e-6)
    return ((products.mean(0) - expected) / error)[varies]


def divergence(x, law, side=3.0, cells=30):
    """KL from draws x (n, 2) to a law in the plane, nats, over squares; its bias is about the squares hit over 2n.

    For a law on a line, x is (n, 1) and the squares are intervals.
    """
    edges = torch.linspace(-side, side, cells + 1, dtype=torch.float64)
    middles, width, d = (edges[:-1] + edges[1:]) / 2, 2 * side / cells, x.shape[1]
    centres = torch.cartesian_prod(*[middles] * d).view(-1, d)
    parts = torch.distributions.MultivariateNormal(law.means[:, None], law.cov)
    p = (law.weights.log()[:, None] + parts.log_prob(centres)).logsumexp(0) + d * torch.tensor(width).log()
    assert float(p.exp().sum()) > 0.999
    q = torch.histogramdd(x, [edges] * d)[0].flatten() / len(x)
    assert float(q.sum()) > 0.98
    return float((q * (q.log() - p)).nansum())


class Part:
    """Some coordinates of a law, by a mask."""

    def __init__(self, law, mask):
        self.weights, self.means, self.cov = law.weights, law.means[:, mask], law.cov[mask][:, mask]

    mean, second = Conditional.mean, Conditional.second

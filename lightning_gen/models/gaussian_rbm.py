"""Gaussian-Bernoulli restricted Boltzmann machines: real visible units, learned variances."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_gen.models.base import GaussianConditionals
from lightning_gen.models.energy import SmoothEnergy
from lightning_gen.models.rbm import HiddenUnits, categorical, states
from lightning_gen.options import Count, Positive
from lightning_gen.process import Clean


class GaussianBernoulliRBM(HiddenUnits, GaussianConditionals, SmoothEnergy):
    """Real v: E(v, h) = 1/2 ||(v - mu) / sigma||^2 - (v / sigma^2)T W h - cT h, sigma learned as log_variance.

    p(v|h) = N(mu + W h, diag sigma^2), p(h_j=1|v) = sigmoid(c + WT (v / sigma^2))_j. Not the form of Krizhevsky (2009)
    with (v / sigma)T W h, whose W is this one's divided by sigma: see `hinton`.
    Gaussian-Bernoulli RBMs without tears (Liao et al., 2022), https://arxiv.org/abs/2210.10318

    Args:
        shape, hidden, std: those of HiddenUnits.
        variance: initial sigma^2 of each visible unit, > 0.
        learn_variance: whether the sigma^2 are trained.
    """

    names = ("W", "c", "mu", "log_variance")

    def __init__(
        self,
        shape: Count | Sequence[Count],
        hidden: Count,
        std: Positive = 0.01,
        variance: Positive = 1.0,
        learn_variance: bool = True,
    ) -> None:
        super().__init__(shape, hidden, std, False, 0.01)
        self.process = Clean()
        visible = math.prod(self.shape)
        self.mu = nn.Parameter(torch.zeros(visible))
        self.log_variance = nn.Parameter(torch.full((visible,), math.log(variance)), requires_grad=learn_variance)

    @property
    def variance(self) -> Tensor:
        """sigma^2 of each visible unit, (D,)."""
        return self.log_variance.exp()

    def hinton(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W', b, c, sigma of the same RBM in the form E = 1/2 ||(v - b) / sigma||^2 - (v / sigma)T W' h - cT h.

        A practical guide to training RBMs (Hinton, 2012), https://doi.org/10.1007/978-3-642-35289-8_32, section 13.2
        """
        sigma = (0.5 * self.log_variance).exp()
        return self.W / sigma[:, None], self.mu, self.c, sigma

    @torch.no_grad()
    def set_hinton(self, W: Tensor, b: Tensor, c: Tensor, sigma: Tensor) -> None:
        """Set the parameters from those that `hinton` returns."""
        self.W.copy_(sigma[:, None] * W)
        self.mu.copy_(b)
        self.c.copy_(c)
        self.log_variance.copy_(2 * sigma.log())

    def logits(self, v: Tensor) -> Tensor:
        """c + WT (v / sigma^2), (B, H)."""
        return torch.addmm(self.c, v.flatten(1) / self.variance, self.W)

    def free_energy(self, v: Tensor, logits: Tensor) -> Tensor:
        """1/2 ||(v - mu) / sigma||^2 - sum_j softplus(logits_j), nats, (B,)."""
        squares = (v.flatten(1) - self.mu).square() / self.variance
        return 0.5 * squares.sum(1) - F.softplus(logits).sum(1)

    def joint_energy(self, v: Tensor, h: Tensor) -> Tensor:
        """E(v, h), nats, (B,)."""
        rows = v.flatten(1)
        squares = (rows - self.mu).square() / self.variance
        return 0.5 * squares.sum(1) - ((rows / self.variance @ self.W) * h).sum(1) - h @ self.c

    def visible(self, h: Tensor) -> Tensor:
        """mu + W h, (B, *shape)."""
        return torch.addmm(self.mu, h, self.W.T).view(-1, *self.shape)

    def sample_visible(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """v ~ N(mu + W h, diag sigma^2), (B, *shape)."""
        return self.visible(h) + self.visible_noise(h, generator)

    def visible_noise(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """sigma z, z ~ N(0, I), (B, *shape), of the batch size, device and dtype of `like`."""
        z = torch.randn(len(like), len(self.mu), generator=generator, device=like.device, dtype=like.dtype)
        return (z * (0.5 * self.log_variance).exp()).view(-1, *self.shape)

    def prior(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """v ~ N(mu, diag sigma^2), as if W = 0, (B, *shape)."""
        like = torch.empty(shape[0], 0, device=self.W.device if generator is None else generator.device)
        return self.mu.detach().view(self.shape) + self.visible_noise(like.to(self.W.dtype), generator).detach()

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """-grad E(x) = (mu + W p(h|x) - x) / sigma^2, (B, ...), without automatic differentiation."""
        return (self.visible(self.hidden(x)) - x) / self.variance.view(self.shape)

    @torch.no_grad()
    def energy_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x), (B,), and -grad E(x), (B, ...), by two matrix products."""
        logits = self.logits(x)
        return self.free_energy(x, logits), (self.visible(logits.sigmoid()) - x) / self.variance.view(self.shape)

    @torch.no_grad()
    def gradient(self, v: Tensor, logits: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """sum_i weight_i dE(v_i) / d theta for W, c, mu and log_variance, by name.

        dE/dmu = (mu - v) / sigma^2; dE/dlog_variance = (v . W p(h|v) - 1/2 (v - mu)^2) / sigma^2.
        """
        rows, variance = v.flatten(1), self.variance
        w, _, c = self.statistics(rows / variance, logits.sigmoid(), weight)
        gradients = {"W": w, "c": c, "mu": (self.mu * weight.sum() - weight @ rows) / variance}
        if self.log_variance.requires_grad:
            # sum_i weight_i v_i . (W p_i), row by row of W, is -W . dE/dW: no further product with the batch is needed.
            gradients["log_variance"] = -(self.W * w).sum(1) - 0.5 * (weight @ (rows - self.mu).square()) / variance
        return gradients

    def mixture(self) -> tuple[Tensor, Tensor, Tensor]:
        """p(v) = sum_h w_h N(m_h, diag sigma^2): log w_h + log Z (2^H,), m_h (2^H, D), sigma^2 (D,), in float64.

        ValueError above 20 hidden units.
        """
        W, mu, variance = self.W.double(), self.mu.double(), self.variance.double()
        h = states(len(self.c), W.device)
        means = mu + h @ W.T
        gain = 0.5 * ((means.square() - mu.square()) / variance).sum(1)
        constant = 0.5 * (len(mu) * math.log(2 * math.pi) + variance.log().sum())
        return h @ self.c.double() + gain + constant, means, variance

    def exact_log_z(self) -> Tensor:
        """log Z, nats, (), summing over the states of the hidden side; ValueError above 20 units."""
        return torch.logsumexp(self.mixture()[0], 0)

    @torch.no_grad()
    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Independent exact samples v, (n, *shape), by enumeration of the hidden states; ValueError above 20 units."""
        n = shape[0]
        logits, means, _ = self.mixture()
        v = means[categorical(logits, n, generator)].to(self.W.dtype)
        return v.view(n, *self.shape) + self.visible_noise(v, generator)

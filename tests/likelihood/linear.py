"""A latent-variable model whose p(x) is known: x = W z + m + s noise, the columns of W orthogonal."""

import math

import torch
from torch import nn

from lightning_gen import models

F64 = {"dtype": torch.float64}


class Linear(nn.Module):
    """Decoder W z + m; encoder the exact posterior N(C WT (x - m) / s^2, C), C = (I + WT W / s^2)^-1, off by choice."""

    classes = None

    def __init__(self, d=5, latent=3, s=0.6, off=0.0, wide=1.0):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        q, _ = torch.linalg.qr(torch.randn(d, latent, generator=g, **F64))
        self.W = nn.Parameter(q * torch.tensor([1.5, 0.7, 1.1], **F64)[:latent])
        self.m = nn.Parameter(torch.linspace(-1, 1, d, **F64))
        self.s, self.off, self.wide, self.latent, self.calls = s, off, wide, latent, []

    def encode(self, x):
        variance = 1 / (1 + (self.W**2).sum(0) / self.s**2)
        mean = variance * ((x - self.m) @ self.W) / self.s**2
        return torch.cat([mean + self.off, (self.wide * variance).log().expand_as(mean)], 1)

    def decode(self, z):
        self.calls.append(len(z))
        return z @ self.W.T + self.m


def linear(**options):
    """The model, and log p(x), a function of x (B, d)."""
    net = Linear(**options)
    model = models.VAE(net, "gaussian", net.s).double()
    with torch.no_grad():
        model.log_scale.fill_(math.log(net.s))
    covariance = (net.W @ net.W.T + net.s**2 * torch.eye(len(net.m), **F64)).detach()
    return model, torch.distributions.MultivariateNormal(net.m.detach(), covariance).log_prob


def rows(n, seed=1):
    """Some x, (n, 5), about where the model has its mass."""
    return 1.2 * torch.randn(n, 5, generator=torch.Generator().manual_seed(seed), **F64)

"""Bounds on log p(x) as losses of latent-variable models, with the reparametrised draws of a generator."""

import math

import torch
from torch import Tensor

from lightning_gen.losses.base import Loss
from lightning_gen.models import VAE
from lightning_gen.options import Count, NonNegative


class ELBO(Loss):
    """-E_q log p(x|z) + beta KL(q(z|x) || p(z)), nats, by `samples` draws of z an x; the second in closed form.

    At beta = 1 minus the evidence lower bound. Kingma & Welling (2014), https://arxiv.org/abs/1312.6114, eq. 10;
    beta-VAE (Higgins et al., 2017), https://openreview.net/forum?id=Sy2fzU9gl, eq. 4
    """

    needs = (VAE,)

    def __init__(self, beta: NonNegative = 1.0, samples: Count = 1) -> None:
        super().__init__()
        self.beta, self.samples = beta, samples

    def forward(self, model: VAE, x: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of each sample, nats, (B,)."""
        mean, log_variance = model.posterior(x)
        nats = 0.0
        for _ in range(self.samples):
            nats = nats + model.log_conditional(x, model.sample_posterior(mean, log_variance, generator))
        return self.beta * model.kl(mean, log_variance) - nats / self.samples


class IWAE(Loss):
    """-log 1/K sum_k w_k, w_k = p(x, z_k) / q(z_k|x), K = `samples`, nats: at K = 1 the evidence lower bound's.

    Importance weighted autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519, eq. 8
    """

    needs = (VAE,)

    def __init__(self, samples: Count) -> None:
        super().__init__()
        self.samples = samples

    def forward(self, model: VAE, x: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of each sample, nats, (B,)."""
        mean, log_variance = model.posterior(x)
        draws = [model.sample_posterior(mean, log_variance, generator) for _ in range(self.samples)]
        weights = torch.stack([model.log_weight(x, mean, log_variance, z) for z in draws])
        return math.log(self.samples) - weights.logsumexp(0)

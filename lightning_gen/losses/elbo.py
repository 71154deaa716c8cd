"""Bounds on log p(x) as losses of latent-variable models, by reparametrised draws of q(z|x)."""

import math

import torch
from torch import Tensor

from lightning_gen.losses.base import Loss
from lightning_gen.models import VAE
from lightning_gen.options import Count, NonNegative


class ELBO(Loss):
    """-E_q log p(x|z) + beta KL(q(z|x) || p(z)), the KL term in closed form; at beta = 1 minus the ELBO.

    Auto-encoding variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114, eq. 10;
    beta-VAE (Higgins et al., 2017), https://openreview.net/forum?id=Sy2fzU9gl, eq. 4

    Args:
        beta: factor of the KL term, >= 0.
        samples: draws of z per x, >= 1.
    """

    needs = (VAE,)

    def __init__(self, beta: NonNegative = 1.0, samples: Count = 1) -> None:
        super().__init__()
        self.beta, self.samples = beta, samples

    def forward(self, model: VAE, x: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of each sample, nats, (B,)."""
        mean, log_variance = model.posterior(x)
        log_conditional = 0.0
        for _ in range(self.samples):
            log_conditional = log_conditional + model.log_conditional(
                x, model.sample_posterior(mean, log_variance, generator)
            )
        return self.beta * model.kl(mean, log_variance) - log_conditional / self.samples


class IWAE(Loss):
    """-log 1/K sum_k w_k, w_k = p(x, z_k) / q(z_k|x), z_k ~ q(z|x); at K = 1 minus the ELBO.

    Importance weighted autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519, eq. 8

    Args:
        samples: K, draws of z per x, >= 1.
    """

    needs = (VAE,)

    def __init__(self, samples: Count) -> None:
        super().__init__()
        self.samples = samples

    def forward(self, model: VAE, x: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of each sample, nats, (B,)."""
        mean, log_variance = model.posterior(x)
        draws = [model.sample_posterior(mean, log_variance, generator) for _ in range(self.samples)]
        weights = torch.stack([model.log_weight(x, mean, log_variance, z) for z in draws])
        return math.log(self.samples) - weights.logsumexp(0)

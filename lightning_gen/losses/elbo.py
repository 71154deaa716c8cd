"""Bounds on log p(x) as losses of latent-variable models, with the reparametrised draws of a generator."""

import math

import torch
from torch import Tensor

from lightning_gen.losses.score_matching import Loss
from lightning_gen.models import VAE


def elbo(beta: float = 1.0, samples: int = 1) -> Loss:
    """-E_q log p(x|z) + beta KL(q(z|x) || p(z)), nats, by `samples` draws of z an x; the second in closed form.

    At beta = 1 minus the evidence lower bound. Kingma & Welling (2014), https://arxiv.org/abs/1312.6114, eq. 10;
    beta-VAE (Higgins et al., 2017), https://openreview.net/forum?id=Sy2fzU9gl, eq. 4
    """
    if not 0 <= beta < math.inf or samples < 1:
        raise ValueError(f"module.beta is {beta}, samples {samples}: give beta >= 0 and at least 1 sample")

    def loss(model: VAE, x: Tensor, generator: torch.Generator) -> Tensor:
        mean, log_variance = model.posterior(x)
        nats = 0.0
        for _ in range(samples):
            nats = nats + model.log_conditional(x, model.sample_posterior(mean, log_variance, generator))
        return beta * model.kl(mean, log_variance) - nats / samples

    return loss


def iwae(samples: int) -> Loss:
    """-log 1/K sum_k w_k, w_k = p(x, z_k) / q(z_k|x), K = `samples`, nats: at K = 1 the evidence lower bound's.

    Importance weighted autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519, eq. 8
    """
    if samples < 1:
        raise ValueError(f"module.samples is {samples}: give at least 1")

    def loss(model: VAE, x: Tensor, generator: torch.Generator) -> Tensor:
        mean, log_variance = model.posterior(x)
        draws = [model.sample_posterior(mean, log_variance, generator) for _ in range(samples)]
        weights = torch.stack([model.log_weight(x, mean, log_variance, z) for z in draws])
        return math.log(samples) - weights.logsumexp(0)

    return loss

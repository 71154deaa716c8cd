"""A lower bound on log p(x) of a diffusion in the latent space of an autoencoder, in three parts.

log p(x) >= E_q [log p(x|z) - log q(z|x) + log p(z)], z ~ q(z|x), with p(z) the diffusion's density or a bound of it.
Score-based generative modeling in latent space (Vahdat et al., 2021, eq. 1), https://arxiv.org/abs/2106.05931
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_gen.likelihood.ode import ODELikelihood
from lightning_gen.likelihood.variational import variational_bound
from lightning_gen.models import VAE, Scored


@torch.no_grad()
def latent_bound(
    autoencoder: VAE,
    model: Scored,
    x: Tensor,
    generator: torch.Generator,
    variance: Literal["small", "large"] = "large",
    flow: ODELikelihood | None = None,
    progress: Callable[[], Any] | None = None,
) -> Tensor:
    """log p(x|z), -log q(z|x), and log p(z) or a bound of it, at one z ~ q(z|x), nats, float64, (B, 3).

    Args:
        autoencoder: encoder and decoder.
        model: the diffusion of z.
        x: data in the autoencoder's model space, (B, ...).
        generator: source of z, and of the noise of the bound or the trace.
        variance: of the variational bound's transitions.
        flow: the estimator of log p(z); None for the variational bound of a discrete process.
        progress: called after each of T terms, or as `flow` does.
    """
    mean, log_variance = autoencoder.posterior(x)
    z = autoencoder.sample_posterior(mean, log_variance, generator)
    squares = ((z - mean).square() * (-log_variance).exp() + log_variance).double().sum(1)
    entropy = 0.5 * (squares + z.shape[1] * math.log(2 * math.pi))
    if flow is not None:
        prior = flow(model, z, generator, progress=progress)[0]
    else:
        bits = variational_bound(model, z, generator, None, variance, progress)
        prior = -bits.sum(1) * z.shape[1] * math.log(2)
    return torch.stack([autoencoder.log_conditional(x, z).double(), entropy, prior.double()], dim=1)

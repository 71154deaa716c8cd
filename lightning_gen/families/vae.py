"""Variational autoencoders: encoder, decoder, and a bound on log p(x) as the loss."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_gen import models
from lightning_gen.families.base import GenerativeModule
from lightning_gen.losses import ELBO, IWAE
from lightning_gen.nets import EncoderDecoder
from lightning_gen.options import Count, NonNegative, Positive


class VAE(GenerativeModule):
    """p(x) = int p(x|z) N(z; 0, I) dz, trained with an encoder q(z|x) by the ELBO or the IWAE bound.

    Auto-encoding variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114

    Args:
        net: encoder and decoder.
        likelihood: p(x|z): bernoulli for data in {0, 1}, gaussian for real data.
        objective: elbo, or iwae with K = samples.
        beta: factor of the KL term of elbo, >= 0.
        samples: draws of z per x, >= 1.
        scale: initial standard deviation of the gaussian likelihood, > 0.
        learn_scale: whether to learn that standard deviation.
        optimizer, options: those of GenerativeModule.
    """

    def __init__(
        self,
        net: EncoderDecoder,
        optimizer: Callable,
        likelihood: Literal["bernoulli", "gaussian"] = "bernoulli",
        objective: Literal["elbo", "iwae"] = "elbo",
        beta: NonNegative = 1.0,
        samples: Count = 1,
        scale: Positive = 1.0,
        learn_scale: bool = True,
        **options: Any,
    ) -> None:
        if objective == "iwae" and beta != 1:
            raise ValueError(f"module.beta is {beta} with objective iwae, expected 1: write 1, or objective elbo")
        model = models.VAE(net, likelihood, scale, learn_scale)
        loss = ELBO(beta, samples) if objective == "elbo" else IWAE(samples)
        super().__init__(model=model, loss=loss, optimizer=optimizer, **options)

    @torch.no_grad()
    def transform(self, x: Tensor) -> Tensor:
        """Mean of q(z|x) by the averaged model, (B, latent), for data x (B, *shape)."""
        return self.averaged.posterior(x)[0]

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """E[x|z] at the mean z of q(z|x), by the averaged model, (B, *shape) in model space."""
        return self.averaged.visible(self.transform(x))

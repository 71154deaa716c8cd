"""Variational autoencoders as a recipe: encoder, decoder, and a bound on log p(x) as the loss."""

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
    """Trains encoder and decoder by the evidence lower bound, or by the tighter one of K = `samples` weights.

    beta multiplies the KL term of `elbo`: beta-VAE. Data are 0 or 1 for a bernoulli likelihood, anything for a gaussian
    one, whose one deviation begins at `scale`. `options` are GenerativeModule's.
    Auto-encoding variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114
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
            raise ValueError(f"module.beta is {beta}, and iwae has no KL term of its own: write 1, or objective elbo")
        model = models.VAE(net, likelihood, scale, learn_scale)
        loss = ELBO(beta, samples) if objective == "elbo" else IWAE(samples)
        super().__init__(model=model, loss=loss, optimizer=optimizer, **options)

    @torch.no_grad()
    def transform(self, x: Tensor) -> Tensor:
        """The representation by the averaged model: the mean of q(z|x), (B, latent), of data x (B, *shape)."""
        return self.averaged.posterior(x)[0]

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """E[x|z] at z = `transform` of x, by the averaged model, (B, *shape) in model space."""
        return self.averaged.visible(self.transform(x))

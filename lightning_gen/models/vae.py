"""Latent-variable models: a decoder p(x|z), a prior p(z) = N(0, I), and an encoder q(z|x) of z given x."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_gen.models.base import Encoded
from lightning_gen.models.support import BINARY, REAL
from lightning_gen.nets import EncoderDecoder
from lightning_gen.options import Positive
from lightning_gen.randomness import bernoulli, noise_like

LOG_2PI = math.log(2 * math.pi)


class VAE(Encoded):
    """p(x) = int p(x|z) N(z; 0, I) dz, with q(z|x) = N(mu(x), diag sigma^2(x)) in place of the posterior.

    p(x|z) is Bernoulli with the decoder's logits, or N(decoder(z), s^2 I). One s serves all values, as in sigma-VAE
    (Rybkin et al., 2021), https://arxiv.org/abs/2006.13202, since the s of a constant pixel would go to zero.
    Auto-encoding variational Bayes (Kingma & Welling, 2014, appendix C), https://arxiv.org/abs/1312.6114

    Args:
        net: encodes x to mu and log sigma^2, (B, 2 latent), and decodes z to logits or means, (B, *shape).
        likelihood: p(x|z): bernoulli for x in {0, 1}, or gaussian for real x.
        scale: initial s of the Gaussian, in units of x, > 0.
        learn_scale: whether s is trained.
    """

    def __init__(
        self,
        net: EncoderDecoder,
        likelihood: Literal["bernoulli", "gaussian"] = "bernoulli",
        scale: Positive = 1.0,
        learn_scale: bool = True,
    ) -> None:
        super().__init__()
        self.net, self.likelihood, self.latent = net, likelihood, net.latent
        self.support = BINARY if likelihood == "bernoulli" else REAL
        if likelihood == "gaussian":
            self.log_scale = nn.Parameter(torch.tensor(math.log(scale)), requires_grad=learn_scale)

    @property
    def deviation(self) -> float | None:
        """s of the Gaussian likelihood; None for the Bernoulli one."""
        return None if self.support == BINARY else float(self.log_scale.detach().exp())

    def networks(self) -> list[nn.Module]:
        """The one network, encoder and decoder."""
        return [self.net]

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """mu(x) and log sigma^2(x) of q(z|x), (B, latent) each."""
        mean, log_variance = self.net.encode(x).to(torch.promote_types(x.dtype, torch.float32)).chunk(2, dim=1)
        return mean, log_variance

    def decoded(self, z: Tensor) -> Tensor:
        """Logits or means of x given z, (B, *shape)."""
        return self.net.decode(z).to(torch.promote_types(z.dtype, torch.float32))

    def visible(self, z: Tensor) -> Tensor:
        """E[x|z], (B, *shape)."""
        return self.decoded(z).sigmoid() if self.support == BINARY else self.decoded(z)

    def sample_visible(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """x ~ p(x|z), (B, *shape)."""
        mean = self.visible(z)
        if self.support == BINARY:
            return bernoulli(mean, generator)
        return mean + self.log_scale.exp() * noise_like(mean, generator)

    def log_conditional(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z), nats, (B,)."""
        out = self.decoded(z)
        if self.support == BINARY:
            return -F.binary_cross_entropy_with_logits(out, x.to(out.dtype), reduction="none").flatten(1).sum(1)
        squares = ((x - out) * (-self.log_scale).exp()).square().flatten(1)
        return -0.5 * squares.sum(1) - squares.shape[1] * (self.log_scale + 0.5 * LOG_2PI)

    def kl(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)) = 1/2 sum (mu^2 + sigma^2 - 1 - log sigma^2), nats, (B,)."""
        return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)

    def sample_posterior(self, mean: Tensor, log_variance: Tensor, generator: torch.Generator | None) -> Tensor:
        """z = mu + sigma noise, like mu: the reparametrisation, differentiable in mu and sigma."""
        return mean + (0.5 * log_variance).exp() * noise_like(mean, generator)

    def log_weight(self, x: Tensor, mean: Tensor, log_variance: Tensor, z: Tensor) -> Tensor:
        """log w = log p(x|z) + log p(z) - log q(z|x), nats, (B,); E_q w = p(x)."""
        prior = -0.5 * z.square()
        posterior = -0.5 * ((z - mean).square() * (-log_variance).exp() + log_variance)
        return self.log_conditional(x, z) + (prior - posterior).sum(1)

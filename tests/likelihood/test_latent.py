"""The bound of a diffusion in a latent space against a linear VAE, whose densities are closed forms."""

import math

import pytest
import torch

from lightning_gen.likelihood import ODELikelihood, latent_bound
from lightning_gen.process import VP, DiscreteVP, linear_betas
from tests.gaussian import Gaussian, example
from tests.likelihood.linear import linear, rows

F64 = {"dtype": torch.float64}
ZERO, UNIT = torch.zeros(3, **F64), torch.eye(3, **F64)


def seeded():
    return torch.Generator().manual_seed(2)


def test_at_the_exact_posterior_and_prior_every_draw_is_log_p():
    """log p(x|z) - log q(z|x) + log p(z) is log p(x), whatever z, where q is the posterior and p(z) = N(0, I)."""
    autoencoder, log_p = linear()
    model, flow = Gaussian(VP(), ZERO, UNIT), ODELikelihood("rk4", steps=10)
    parts = latent_bound(autoencoder, model, rows(3), seeded(), flow=flow)
    torch.testing.assert_close(parts.sum(1), log_p(rows(3)), rtol=0, atol=1e-8)


def test_of_another_prior_and_encoder_the_parts_are_their_closed_forms():
    autoencoder, _ = linear(off=0.4, wide=1.7)
    mean, cov = example(3)
    x, n = rows(1).expand(200, -1), 200
    parts = latent_bound(autoencoder, Gaussian(VP(), mean, cov), x, seeded(), flow=ODELikelihood("rk4", steps=24))
    with torch.no_grad():
        m, log_variance = (each[0] for each in autoencoder.posterior(x))
        z = torch.distributions.MultivariateNormal(mean, cov)
        q = torch.distributions.MultivariateNormal(m, log_variance.exp().diag())
        W, s = autoencoder.net.W, autoencoder.net.s
        squares = (x[0] - m @ W.T - autoencoder.net.m).square().sum() + (W * W * log_variance.exp()).sum()
    reconstruction = -squares / (2 * s**2) - 5 * math.log(s * math.sqrt(2 * math.pi))
    prior = z.log_prob(m) - 0.5 * (torch.linalg.inv(cov).diagonal() * log_variance.exp()).sum()
    expected = torch.stack([reconstruction, q.entropy(), prior])
    error = parts.std(0) / n**0.5
    assert ((parts.mean(0) - expected).abs() < 4 * error + torch.tensor([0, 0, 2e-3])).all(), (parts.mean(0), expected)


@pytest.mark.parametrize("variance", ["large", "small"])
def test_the_chains_part_is_its_closed_form_and_below_log_p(variance):
    """Of z ~ N(0, I) with the exact model, E[z_0 | z_k] = alpha_k z_k, each term's mean over the noise is known."""
    autoencoder, log_p = linear()
    process, n = DiscreteVP(linear_betas(12, 0.02, 0.5)), 4000
    x = rows(1).expand(n, -1)
    parts = latent_bound(autoencoder, Gaussian(process, ZERO, UNIT), x, seeded(), variance)
    with torch.no_grad():
        z = autoencoder.sample_posterior(*autoencoder.posterior(x), seeded())  # the generator's first draw
    k = torch.arange(13, **F64) / 12
    alpha, var = process.alpha(k), process.variance(k)
    terms = 0.5 * (var[12] - 1 - var[12].log() + alpha[12] ** 2 * z.square())
    for i in range(1, 13):
        beta = var[i] - (alpha[i] / alpha[i - 1]) ** 2 * var[i - 1]
        error = (var[i] * z).square() + alpha[i] ** 2 * var[i]  # E (z - alpha_i z_i)^2
        if i == 1:
            first = (var[2] - (alpha[2] / alpha[1]) ** 2 * var[1]) * var[1] / var[2]  # the posterior's at k = 2
            v = beta if variance == "large" else first
            terms = terms + 0.5 * (error / v + (2 * math.pi * v).log())
        else:
            true = beta * var[i - 1] / var[i]
            v = beta if variance == "large" else true
            squares = (alpha[i - 1] * beta / var[i]) ** 2 * error / v
            terms = terms + 0.5 * (true / v - 1 - (true / v).log() + squares)
    gap = parts[:, 2] + terms.sum(1)
    assert abs(gap.mean()) < 4 * gap.std() / n**0.5
    bound = parts.sum(1)
    assert bound.mean() < log_p(x[:1]) + 4 * bound.std() / n**0.5

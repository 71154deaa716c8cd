"""Latent-variable models: the densities written out by torch.distributions, and samples that have the law of p."""

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from lightning_gen import models
from lightning_gen.models import Scored
from lightning_gen.nets import ConvAutoencoder, MLPAutoencoder
from lightning_gen.samplers import DDIM, Gibbs, Langevin, Latent
from tests.likelihood.linear import F64, linear


def digits_like(likelihood, latent=4):
    torch.manual_seed(0)
    return models.VAE(MLPAutoencoder((1, 4, 4), latent, 16, 1), likelihood, 0.3).double()


def images(n=6):
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(2), **F64).round()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_weights_and_divergence_are_those_of_the_written_densities(likelihood):
    model, x = digits_like(likelihood), images()
    mean, log_variance = model.posterior(x)
    q = Independent(Normal(mean, (log_variance / 2).exp()), 1)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    torch.testing.assert_close(model.kl(mean, log_variance), kl_divergence(q, prior))
    z = model.sample_posterior(mean, log_variance, torch.Generator().manual_seed(1))
    out = model.net.decode(z)
    p = Bernoulli(logits=out) if likelihood == "bernoulli" else Normal(out, 0.3)
    expected = Independent(p, 3).log_prob(x)
    torch.testing.assert_close(model.log_conditional(x, z), expected)
    expected = expected + prior.log_prob(z) - q.log_prob(z)
    torch.testing.assert_close(model.log_weight(x, mean, log_variance, z), expected)


def test_posterior_draws_have_their_mean_and_variance():
    model, n = digits_like("bernoulli"), 40_000
    mean, log_variance = torch.tensor([[1.0, -2.0]], **F64).expand(n, 2), torch.tensor([[0.0, -3.0]], **F64)
    z = model.sample_posterior(mean, log_variance, torch.Generator().manual_seed(0))
    variance = log_variance.exp()[0]
    assert ((z.mean(0) - mean[0]).abs() < 4 * (variance / n).sqrt()).all()
    assert ((z.var(0) / variance - 1).abs() < 4 * (2 / n) ** 0.5).all()


def test_samples_of_a_linear_model_have_its_mean_and_covariance():
    model, _ = linear()
    n = 40_000
    with torch.no_grad():
        x = Latent()(model, torch.zeros(n, 5, **F64), torch.Generator().manual_seed(3))
        covariance = model.net.W @ model.net.W.T + 0.36 * torch.eye(5, **F64)
        means = Latent(mean=True)(model, torch.zeros(n, 5, **F64), torch.Generator().manual_seed(3))
    assert ((x.mean(0) - model.net.m).abs() < 4 * (covariance.diagonal() / n).sqrt()).all()
    spread = (covariance.diagonal()[:, None] * covariance.diagonal() + covariance**2) / n
    assert ((torch.cov(x.T) - covariance).abs() < 4.5 * spread.sqrt()).all()
    without = covariance - 0.36 * torch.eye(5, **F64)
    assert ((torch.cov(means.T) - without).abs() < 4.5 * spread.sqrt()).all()


def test_bernoulli_samples_are_zeros_and_ones_of_the_decoders_probability():
    model, n = digits_like("bernoulli"), 20_000
    z = torch.randn(1, 4, generator=torch.Generator().manual_seed(0), **F64)
    with torch.no_grad():
        p = model.visible(z)[0]
        x = model.sample_visible(z.expand(n, 4), torch.Generator().manual_seed(1))
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert ((x.mean(0) - p).abs() < 4.5 * (p * (1 - p) / n).sqrt()).all()


def test_more_steps_show_the_path_of_z_and_do_not_change_the_samples():
    model = digits_like("gaussian")
    start = torch.zeros(3, 1, 4, 4, **F64)
    with torch.no_grad():
        path = list(Latent(5).trajectory(model, start, torch.Generator().manual_seed(0)))
        alone = Latent(1)(model, start, torch.Generator().manual_seed(0))
        z = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), **F64)
        torch.testing.assert_close(path[-1], alone)
        torch.testing.assert_close(path[1], model.visible(0 * z))
        torch.testing.assert_close(path[4], model.visible(0.75 * z))
        torch.testing.assert_close(path[2], model.visible(z / 4))
    assert Latent(5).evaluations(model, (1, 2)) == 5 and len(path) == 6


@pytest.mark.parametrize("sampler", [Langevin(2), DDIM(2), Gibbs(2)], ids=lambda s: type(s).__name__)
def test_samplers_that_need_a_score_are_refused(sampler):
    with pytest.raises(TypeError, match="latent|sampler"):
        sampler.check(digits_like("gaussian"))
    Latent().check(digits_like("gaussian"))
    assert Scored not in models.capabilities(digits_like("gaussian"))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 5), (2,)])
def test_networks_take_any_shape_and_every_weight_learns(shape):
    net = ConvAutoencoder(shape, 3, 4, (1, 2)) if len(shape) == 3 else MLPAutoencoder(shape, 3, 8, 2)
    x = torch.randn(2, *shape)
    assert net.encode(x).shape == (2, 6) and net(x).shape == x.shape
    model = models.VAE(net, "gaussian")
    mean, log_variance = model.posterior(x)
    model.log_weight(x, mean, log_variance, model.sample_posterior(mean, log_variance, None)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: models.VAE(MLPAutoencoder((2,)), "laplace"), "likelihood.*laplace.*bernoulli"),
        (lambda: models.VAE(MLPAutoencoder((2,)), "gaussian", 0.0), "scale.*0.0"),
        (lambda: models.VAE(torch.nn.Linear(2, 2)), "net.*Linear.*EncoderDecoder"),
        (lambda: MLPAutoencoder((2,), width=0), "width.*0"),
        (lambda: MLPAutoencoder((2,), latent=0), "latent.*0"),
        (lambda: ConvAutoencoder((2,)), r"shape.*\(2,\)"),
        (lambda: Latent(0), "steps.*0"),
    ],
)
def test_what_cannot_be_is_refused(call, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        call()

"""What the weighted losses are by name: Vincent's, NCSN's sum, the bound's terms, the likelihood in continuous time."""

import math

import pytest
import torch

from lightning_gen.likelihood.variational import variational_bound
from lightning_gen.losses import DenoisingScoreMatching, constant, levels, uniform, vlb
from lightning_gen.process import VE, VP, DiscreteVP, SubVP, cosine_betas, linear_betas
from tests.gaussian import Gaussian, example
from tests.losses.nets import MODELS, model
from tests.losses.test_denoising import Shifted, data


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(x, generator):
    return torch.randn(x.shape, generator=generator, dtype=x.dtype)


@pytest.mark.parametrize("name", MODELS)
def test_one_level_is_vincents(name, sigma=0.3):
    """1/2 ||s(x~) + (x~ - x) / sigma^2||^2."""
    scored, x = model(name, VE(sigma, sigma)), data(20)
    measured = DenoisingScoreMatching(constant(0.0), "score", "sum")(scored, x, seeded(2))
    noisy = x + sigma * randn(x, seeded(2))
    expected = 0.5 * (scored.score(noisy, torch.zeros(())) + (noisy - x) / sigma**2).square().sum(1)
    torch.testing.assert_close(measured, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_denoising_is_the_fisher_divergence_to_the_noised_data_but_for_a_constant(name, n=40_000, sigma=0.5):
    """The difference of the two is the same for every model, and so are the gradients in the weights."""
    process, x = VE(sigma, sigma), data(n)
    truth, noisy = Gaussian(process, *example()), x + sigma * randn(x, seeded(2))
    gaps, slopes = [], []
    for seed in (0, 1):
        scored = model(name, process, seed)
        denoised = DenoisingScoreMatching(constant(0.0), "score", "sum")(scored, x, seeded(2))
        score = scored.score(noisy, torch.zeros(()))
        gaps.append(denoised - 0.5 * (score - truth.score(noisy, torch.zeros(()))).square().sum(1))
        parameter = scored.net.bias
        # Batches, since a gradient of each sample's own would take a pass each.
        parts = [torch.autograd.grad(part.mean(), parameter, retain_graph=True)[0] for part in gaps[-1].split(n // 40)]
        slopes.append(torch.stack(parts))
    gap = (gaps[1] - gaps[0]).detach()
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / n**0.5
    for slope in slopes:
        assert (slope.mean(0).abs() < 4.5 * slope.std(0) / 40**0.5).all()  # 39 degrees of freedom, five weights


@pytest.mark.parametrize("name", MODELS)
def test_ncsns_sum_over_levels_is_the_simple_weight(name, L=6):
    """1/(2 L) sum_i sigma_i^2 E||s(x + sigma_i z, sigma_i) + z / sigma_i||^2, each level as often as any other."""
    scored, x = model(name, VE(0.05, 2.0, levels=L)), data(30)
    total, expected = 0, 0
    for i in range(L):
        sigma = 0.05 * 40 ** (i / (L - 1))
        z = randn(x, seeded(i))
        score = scored.score(x + sigma * z, torch.full((30,), i / (L - 1), dtype=torch.float64))
        expected = expected + sigma**2 * (score + z / sigma).square().sum(1) / (2 * L)
        total = total + DenoisingScoreMatching(constant(i / (L - 1)), "simple", "sum")(scored, x, seeded(i)) / L
    torch.testing.assert_close(total, expected, rtol=1e-10, atol=1e-10)
    drawn = DenoisingScoreMatching(levels(L, first=0), "simple", "sum")(scored, x.repeat(2000, 1), seeded(1)).reshape(
        2000, 30
    )
    drawn = drawn.mean(1).detach()
    mean = torch.stack(
        [
            DenoisingScoreMatching(constant(i / (L - 1)), "simple", "sum")(scored, x.repeat(500, 1), seeded(i + 9))
            .reshape(500, 30)
            .mean(1)
            .detach()
            for i in range(L)
        ]
    ).mean(0)
    error = (drawn.var() / len(drawn) + mean.var() / len(mean)).sqrt()
    assert abs(float(drawn.mean() - mean.mean())) < 4 * float(error)


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("betas", [linear_betas(8, 1e-2, 0.4), cosine_betas(8)])
def test_the_bounds_weights_give_its_terms(betas, variance):
    """L_1 to L_{T-1} in nats, draw by draw; large leaves a divergence of the variances that no model changes."""
    process, x = DiscreteVP(betas), data(5) / 3
    scored, T = Shifted(Gaussian(process, *example()), 0.1), len(betas)
    terms = variational_bound(scored, x, seeded(3), variance=variance) * math.log(2)
    g = seeded(3)
    for k in range(T, 1, -1):
        at_k = DenoisingScoreMatching(
            lambda n, _, k=k: torch.full((n,), k / T, dtype=torch.float64), vlb(variance), "mean"
        )
        t = torch.tensor([k / T, (k - 1) / T], dtype=torch.float64)
        posterior = process.variance(t)[1] / process.variance(t)[0]  # as a fraction of beta
        rest = 0.5 * (posterior - 1 - posterior.log()) if variance == "large" else 0
        torch.testing.assert_close(at_k(scored, x, g) + rest, terms[:, k - 1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_many_steps_weigh_as_continuous_time_does(variance, T=20_000):
    """T times the bound's weight tends to g^2 / (2 sigma^2): Riemann's sum of the likelihood's integral."""
    chain, x = DiscreteVP(linear_betas(T, 0.1 / T, 20 / T)), data(4)
    t = lambda n, _: torch.full((n,), 0.4, dtype=torch.float64)  # noqa: E731
    discrete = DenoisingScoreMatching(t, vlb(variance))(Shifted(Gaussian(chain, *example()), 0.5), x, seeded())
    continuous = DenoisingScoreMatching(t, "likelihood")(Shifted(Gaussian(VP(), *example()), 0.5), x, seeded())
    torch.testing.assert_close(T * discrete, continuous / 2, rtol=2e-3, atol=0)


def divergence(p, q, t):
    """KL(p_t || q_t) of two noised Gaussians, nats."""
    alpha, eye = p.process.alpha(t), p.process.variance(t) * torch.eye(2).double()
    P, Q = alpha**2 * p.cov + eye, alpha**2 * q.cov + eye
    shift = alpha * (p.mean - q.mean)
    ratio = torch.linalg.solve(Q, P)
    return 0.5 * (ratio.trace() - 2 - ratio.logdet() + shift @ torch.linalg.solve(Q, shift))


@pytest.mark.parametrize("process", [VP(), SubVP(), VE(0.01, 50), VE(0.1, 5, start="zero")])
def test_the_likelihoods_weight_measures_the_divergence_that_the_noise_takes(process, n=100_000, first=0.05):
    """int_s^1 1/2 g^2 E||score of p_t - score of q_t||^2 dt = KL(p_s || q_s) - KL(p_1 || q_1)."""
    mean, cov = example()
    p, q = Gaussian(process, mean, cov), Gaussian(process, mean + 0.3, cov + 0.4 * torch.eye(2).double())
    loss, x = DenoisingScoreMatching(uniform(first), "likelihood", "sum"), data(n)
    gap = (1 - first) * (loss(q, x, seeded(5)) - loss(p, x, seeded(5)))
    times = torch.tensor([first, 1.0], dtype=torch.float64)
    expected = divergence(p, q, times[0]) - divergence(p, q, times[1])
    error = float(gap.std()) / n**0.5
    assert abs(float(gap.mean() - expected)) < 4 * error
    assert error < 0.05 * float(expected)

"""Draws given part of x, or given y = A x + noise: exact answers have the exact law, the others come near it."""

import pytest
import torch

import lightning_gen
from lightning_gen.models import Generator
from lightning_gen.process import VE, VP, Clean, DiscreteVP, Interpolant, cosine_betas
from lightning_gen.questions import inpainting, inverse
from lightning_gen.samplers import MALA, Langevin
from tests.energies import Quadratic
from tests.flows import GaussianVelocity
from tests.gaussian import Gaussian, Mixture, example
from tests.likelihood.linear import linear
from tests.questions.families import Linearly, module, of, points
from tests.questions.mixture import Conditional, MixtureEnergy, Part, divergence, z_scores

F64 = {"dtype": torch.float64}
EYE = torch.eye(2, **F64)
A, Y, SIGMA = torch.tensor([[0.8, -0.6]], **F64), torch.tensor([0.4], **F64), 0.5
MIX = Mixture(Clean())


def mixed(A, y, sigma=0.0):
    """The law of the mixture in the plane, given y."""
    return Conditional(MIX.weights, MIX.means, MIX.spread**2 * EYE, A, y, sigma)


def frequencies(family, mask, x, n, by=None):
    """z-scores of the frequencies of every state of the missing values of x against enumeration."""
    count, d = family.model.support.levels, family.shape[0]
    states = torch.cartesian_prod(*[torch.arange(count)] * d).double()
    states = states[(states == x)[:, mask].all(1)]
    p = lightning_gen.ask(family).log_prob(states).value.softmax(0)
    drawn = lightning_gen.ask(family).inpaint(x.expand(n, d), mask, by)
    seen = (drawn[:, None] == states).all(2).double()
    assert (seen.sum(1) == 1).all()
    return (seen.mean(0) - p) / (p * (1 - p) / n).sqrt()


def test_a_prefix_is_completed_by_the_exact_conditionals():
    family = module("Autoregressive")
    order = family.model.net.order(0)
    mask = torch.zeros(4, dtype=torch.bool)
    mask[order[:2]] = True
    assert (frequencies(family, mask, torch.tensor([1.0, 2.0, 0.0, 1.0]).double(), 20_000).abs() < 4).all()
    with pytest.raises(ValueError, match="missing values before known"):
        lightning_gen.ask(family).inpaint(points(family), ~mask)


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("RBM, at most 20 units on a side", inpainting.BlockGibbs(50)),
        ("Autoregressive, several orderings", inpainting.SiteGibbs(15)),
        ("Autoregressive", inpainting.SiteGibbs(15)),
    ],
)
def test_chains_over_whole_numbers_have_the_conditional_law(name, by):
    family = module(name)
    for parameter in family.model.parameters():  # far from independent values
        parameter.data *= 2
    mask, x = torch.tensor([False, True, True, False]), torch.tensor([0.0, 1.0, 0.0, 0.0]).double()
    assert (frequencies(family, mask, x, 8000, by).abs() < 4).all()


def test_a_sweep_asks_one_ordering():
    """Not each of them for each missing value: one pass an ordering and a missing value, not the product."""
    family, calls = module("Autoregressive, several orderings"), []
    family.model.net.register_forward_hook(lambda *_: calls.append(1))
    mask, x = torch.tensor([False, True, True, False]), torch.zeros(1, 4).double()
    lightning_gen.ask(family).inpaint(x, mask, inpainting.SiteGibbs(3))
    assert len(calls) == 3 * (2 + 2)


def test_a_gaussian_rbm_is_a_mixture_given_part_of_it():
    """log w_h + log Z, the means and sigma^2 of every h are known."""
    family = module("GaussianBernoulliRBM, at most 20 hidden units")
    family.model.W.data *= 2
    logits, means, variance = (part.detach() for part in family.model.mixture())
    mask, x = torch.tensor([True, False, True, False]), torch.tensor([0.5, 0.0, -0.5, 0.0], **F64)
    law = Conditional(logits.softmax(0), means, variance.diag(), torch.eye(4).double()[mask], x[mask])
    drawn = lightning_gen.ask(family).inpaint(x.expand(8000, 4), mask, inpainting.BlockGibbs(50))
    assert (drawn[:, mask] == x[mask]).all()
    assert (z_scores(drawn, law).abs() < 4).all()


def test_metropolis_draws_the_exact_conditional_of_a_mixture():
    ask, mask = lightning_gen.ask(of(MixtureEnergy(), (2,))), torch.tensor([True, False])
    x = torch.tensor([0.1, 0.0], **F64)
    by = inpainting.ClampedMetropolis(MALA(100, 0.05, spread=1.5, jump=0.3), tune=False)
    assert (z_scores(ask.inpaint(x.expand(8000, 2), mask, by), mixed(EYE[:1], x[:1])).abs() < 4).all()


def test_metropolis_draws_the_exact_posterior_of_a_mixture():
    ask = lightning_gen.ask(of(MixtureEnergy(), (2,)))
    by = inverse.PosteriorMetropolis(MALA(150, 0.05, spread=1.5, jump=0.3), tune=False)
    drawn = ask.posterior(Y.expand(4000, 1), A, SIGMA, by)
    assert (z_scores(drawn, mixed(A, Y, SIGMA)).abs() < 4).all()
    same = ask.posterior(Y.expand(4000, 1), lambda x: x @ A.T, SIGMA, by)
    assert torch.equal(drawn, same)


def test_a_chain_that_finds_its_step_size_keeps_the_law():
    """From a step size 100 times too small."""
    ask = lightning_gen.ask(of(Quadratic([1.0, 4.0], 0.5), (2,)))
    law = Conditional(
        torch.ones(1, **F64), torch.full((1, 2), 0.5, **F64), torch.tensor([1.0, 0.25]).diag().double(), A, Y, SIGMA
    )
    by = inverse.PosteriorMetropolis(MALA(200, 1e-3))
    assert (z_scores(ask.posterior(Y.expand(4000, 1), A, SIGMA, by), law).abs() < 4).all()


def test_the_missing_values_of_a_linear_decoder_have_their_gaussian_law():
    """The encoder is off: without the Metropolis test the chain would follow it."""
    model, _ = linear(off=0.5, wide=1.3)
    net, mask = model.net, torch.tensor([True, True, False, True, False])
    x = torch.tensor([0.3, -1.0, 0.0, 1.0, 0.0], **F64)
    cov = (net.W @ net.W.T + net.s**2 * torch.eye(5).double()).detach()
    law = Conditional(torch.ones(1, **F64), net.m.detach()[None], cov, torch.eye(5).double()[mask], x[mask])
    ask = lightning_gen.ask(of(model, (5,)))
    drawn = ask.inpaint(x.expand(8000, 5), mask, inpainting.MetropolisWithinGibbs(60))
    assert (z_scores(drawn, law).abs() < 4).all()


def test_a_linear_generator_has_its_gaussian_law_given_noisy_values():
    torch.manual_seed(0)
    net, n, sigma = Linearly(), 4000, 0.4
    family = of(Generator(net))
    W, b = net.layer.weight.detach() * 1.0, net.layer.bias.detach()
    B, y = torch.randn(2, 4, generator=torch.Generator().manual_seed(1), **F64), torch.tensor([0.5, -0.3], **F64)
    law = Conditional(torch.ones(1, **F64), b[None], W @ W.T, B, y, sigma)
    by = inverse.LatentPosterior(MALA(200, 0.1))
    assert (z_scores(lightning_gen.ask(family).posterior(y.expand(n, 2), B, sigma, by), law).abs() < 4).all()
    mask, x = torch.tensor([True, False, False, True]), torch.tensor([0.2, 0.0, 0.0, -0.2], **F64)
    law = Conditional(torch.ones(1, **F64), b[None], W @ W.T, torch.eye(4).double()[mask], x[mask], sigma)
    drawn = lightning_gen.ask(family).inpaint(x.expand(n, 4), mask, inpainting.LatentMetropolis(sigma, MALA(200, 0.1)))
    free = z_scores(drawn[:, ~mask], Part(law, ~mask))
    assert (free.abs() < 4).all()


def test_langevin_comes_near_a_gaussian_given_part_of_it():
    """Unadjusted: of a missing value of variance v the chain has v / (1 - eta / 2v)."""
    ask, eta = lightning_gen.ask(of(Gaussian(Clean(), *example()), (2,))), 0.02
    mean, cov = example()
    mask, x = torch.tensor([True, False]), torch.tensor([0.3, 0.0], **F64)
    exact = Conditional(torch.ones(1, **F64), mean[None], cov, EYE[:1], x[:1])
    free = Part(exact, ~mask)
    free.cov = free.cov / (1 - eta / (2 * free.cov))
    by = inpainting.ClampedLangevin(Langevin(300, eta))
    assert (z_scores(ask.inpaint(x.expand(8000, 2), mask, by)[:, ~mask], free).abs() < 4).all()
    A, y, sigma = torch.tensor([[0.8, -0.6]], **F64), torch.tensor([0.4], **F64), 0.5
    law = Conditional(torch.ones(1, **F64), mean[None], cov, A, y, sigma)
    inner = EYE - eta / 2 * torch.linalg.inv(law.cov)
    law.cov = law.cov @ torch.linalg.inv(inner)
    by = inverse.PosteriorLangevin(Langevin(300, eta))
    assert (z_scores(ask.posterior(y.expand(8000, 1), A, sigma, by), law).abs() < 4).all()


@pytest.mark.parametrize("process", [VP, lambda: VE(0.01, 20.0)])
def test_moment_matching_is_near_exact_for_gaussian_data(process):
    """Only the steps are finite, and the law given x_t is Gaussian."""
    mean, cov = example()
    ask = lightning_gen.ask(of(Gaussian(process(), mean, cov), (2,)))
    law = Conditional(torch.ones(1, **F64), mean[None], cov, A, Y, SIGMA)
    drawn = ask.posterior(Y.expand(4000, 1), A, SIGMA, inverse.MomentMatching(200, "small"))
    assert (drawn.mean(0) - law.mean()).abs().max() < 0.05
    assert (drawn.T.cov() - law.cov).abs().max() < 0.05


@pytest.mark.parametrize("steps", [1, 100])
@pytest.mark.parametrize("alpha_end", [0.0, 1e-6, 1e-3])
def test_moment_matching_needs_no_data_in_the_last_noise(alpha_end, steps):
    """At alpha(1) = 0 Tweedie's covariance is 0 times infinity; one step gives E[x_0 | y] itself."""
    mean, cov = torch.full((2,), 0.5, **F64), 0.49 * EYE
    ask = lightning_gen.ask(of(GaussianVelocity(0.7, alpha_end, mean=0.5), (2,)))
    law = Conditional(torch.ones(1, **F64), mean[None], cov, A, Y, SIGMA)
    drawn = ask.posterior(Y.expand(2000, 1), A, SIGMA, inverse.MomentMatching(steps, "small"))
    assert (drawn.mean(0) - law.mean()).abs().max() < 0.05
    if steps == 1:
        assert (drawn - law.mean()).abs().max() < 0.05
    else:
        assert (drawn.T.cov() - law.cov).abs().max() < 0.05


def test_clean_data_are_read_where_alpha_is_no_less_than_a_hundredth():
    """At the last such time, which is one of a discrete process."""
    for process in (Interpolant(), Interpolant(1e-6), VP(), DiscreteVP(cosine_betas(100)), VE(0.01, 20.0)):
        last = torch.tensor(inverse.last_legible(process), **F64)
        assert 0.5 < last <= 1 and process.alpha(last) >= 0.01
        assert process.steps is None or float(last * process.steps) == pytest.approx(round(float(last * process.steps)))
        after = (last + 1 / (process.steps or 1000)).clamp(max=1)
        assert last == 1 or process.alpha(after) < 0.01


def test_a_guided_diffusion_comes_near_the_posterior_of_a_mixture():
    """Draws of the prior are .45 nats from it."""
    ask = lightning_gen.ask(of(Mixture(VP()), (2,)))
    drawn = ask.posterior(Y.expand(4000, 1), A, SIGMA, inverse.MomentMatching(50))
    assert divergence(drawn, mixed(A, Y, SIGMA)) < 0.12


def test_resampling_brings_repaint_nearer_to_the_missing_values_of_a_mixture():
    ask, mask = lightning_gen.ask(of(Mixture(VP()), (2,))), torch.tensor([True, False])
    x = torch.tensor([0.6, 0.0], **F64)
    law = Part(mixed(EYE[:1], x[:1]), ~mask)
    once, often = (
        divergence(ask.inpaint(x.expand(2000, 2), mask, inpainting.RePaint(40, count))[:, ~mask], law)
        for count in (1, 8)
    )
    assert often < 0.08 < once


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda ask, x: ask.inpaint(x, torch.ones(4)), "mask is torch.float32"),
        (lambda ask, x: ask.inpaint(x, torch.ones(3, dtype=torch.bool)), r"mask is torch.bool of shape \(3,\)"),
        (lambda ask, x: ask.posterior(x[:, :2], torch.ones(3, 2), 0.1), r"operator has shape \(3, 2\)"),
        (lambda ask, x: ask.posterior(x[:, :2], torch.ones(3, 4), 0.1), r"y has shape \(6, 2\)"),
        (lambda ask, x: ask.posterior(x, torch.eye(4), 0.0), "sigma is 0"),
    ],
)
def test_a_wrong_mask_or_operator_is_refused_with_the_value(call, match):
    family = module("Flow")
    with pytest.raises(ValueError, match=match):
        call(lightning_gen.ask(family), points(family))


def test_values_that_are_missing_are_not_looked_at():
    """They may be NaN, and known ones stay as they are."""
    family = module("Flow")
    x, mask = points(family), torch.tensor([True, True, False, False])
    ask, by = lightning_gen.ask(family), inpainting.ClampedMetropolis(MALA(3))
    drawn = ask.inpaint(x, mask, by)
    assert torch.equal(drawn[:, :2], x[:, :2])
    assert torch.equal(drawn, ask.inpaint(torch.where(mask, x, torch.nan), mask, by))

"""Gibbs' stationary law for RBMs with enumerated states, and Gibbs-Langevin's steps, which are one Gaussian draw."""

import pytest
import torch

from lightning_gen.models import RBM, Denoiser, GaussianBernoulliRBM
from lightning_gen.models.rbm import states
from lightning_gen.nets import MLP
from lightning_gen.process import VP
from lightning_gen.samplers import HMC, MALA, Gibbs, GibbsLangevin, Langevin
from tests.models.test_rbm import binary, gaussian


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def chi2(model, v):
    """(chi^2 - degrees) / sqrt(2 degrees) of the states of v against the listed law."""
    visible = len(model.b)
    p = (-model.energy(states(visible)) - model.exact_log_z()).exp().detach()
    counts = torch.bincount((v * 2 ** torch.arange(visible)).sum(1).long(), minlength=2**visible)
    value, degrees = float(((counts - len(v) * p).square() / (len(v) * p)).sum()), 2**visible - 1
    return (value - degrees) / (2 * degrees) ** 0.5


@pytest.mark.parametrize("hidden", [3, 6])
def test_gibbs_has_the_rbms_law(hidden):
    model = binary(5, hidden)
    assert abs(chi2(model, Gibbs(60).draw(model, (20000, 5), generator()))) < 4
    assert chi2(model, model.prior((20000, 5), generator())) > 100  # where it began


@pytest.mark.parametrize("sweeps", [1, 7])
def test_a_chain_that_has_the_law_keeps_it(sweeps):
    model = binary(5, 3)
    v = model.draw((20000, *model.shape), generator()).double()
    moved = Gibbs(sweeps)(model, v, generator(1))
    assert abs(chi2(model, v)) < 4 and abs(chi2(model, moved)) < 4
    assert float((moved != v).double().mean()) > 0.1


@pytest.mark.parametrize("sampler", [Gibbs(3), GibbsLangevin(30, 1, 0.02), GibbsLangevin(30, 3, 0.005, False)])
def test_a_chain_that_has_a_gaussian_rbms_law_keeps_it(sampler):
    """Also where one small step is taken for each draw of h: first and second moments, |z| <= 4."""
    model, n = gaussian(2, 3), 20000
    logits, means, variance = (value.detach() for value in model.mixture())
    part = torch.multinomial(logits.softmax(0), n, replacement=True, generator=generator())
    x = means[part] + variance.sqrt() * torch.randn(n, 2, generator=generator(1), dtype=torch.float64)
    moved = sampler(model, x, generator(2)).detach()
    for result, truth in ((moved, moments(model)[0]), (moved.square(), moments(model)[1])):
        assert ((result.mean(0) - truth) / (result.std(0) / n**0.5)).abs().max() < 4
    assert float((moved - x).square().mean()) > 0.1


def moments(model):
    logits, means, variance = (value.detach() for value in model.mixture())
    w = logits.softmax(0)
    return w @ means, w @ (means.square() + variance)


@pytest.mark.parametrize(
    "sampler",
    [
        Gibbs(60),
        GibbsLangevin(60, inner=400, step_size=0.02),
        Langevin(3000, 2e-3),
        MALA(600, 0.2),
        HMC(80, 0.3, 5),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_every_sampler_of_a_gaussian_rbm_has_its_moments(sampler):
    torch.manual_seed(0)
    model = gaussian(2, 3)
    model.W.data *= 0.5  # so that a chain goes from part to part
    n = 4000
    x = sampler.draw(model, (n, 2), generator(3)).detach().double()
    for result, truth in ((x, moments(model)[0]), (x.square(), moments(model)[1])):
        z = (result.mean(0) - truth) / (result.std(0) / n**0.5)
        assert z.abs().max() < 4


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("inner", [1, 7])
def test_inner_steps_are_one_draw(relative, inner):
    """Mean and variance of `inner` Langevin steps towards N(m, sigma^2), step by step."""
    model = gaussian()
    sampler = GibbsLangevin(1, inner, 0.1, relative)
    variance = model.variance.detach()
    eta = 0.1 * variance if relative else torch.full_like(variance, 0.1)
    factor, added = torch.ones_like(variance), torch.zeros_like(variance)
    for _ in range(inner):
        ratio = 1 - eta / variance
        factor, added = factor * ratio, added * ratio.square() + 2 * eta
    result = sampler.moments(model, model.shape)
    torch.testing.assert_close(torch.ones_like(variance) * result[0], factor, rtol=1e-12, atol=0)
    torch.testing.assert_close(result[1].detach(), added, rtol=1e-12, atol=0)


@pytest.mark.parametrize("relative", [True, False])
def test_a_sweep_of_gibbs_langevin_under_autocast_keeps_the_samples_precision(relative):
    model = gaussian(4, 3).float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        x = GibbsLangevin(2, 3, 0.2, relative)(model, torch.zeros(5, *model.shape), generator())
    assert x.dtype == torch.float32 and x.isfinite().all()


def test_many_inner_steps_leave_langevins_variance():
    model, eta = gaussian(), 0.5
    _, added = GibbsLangevin(1, 500, eta).moments(model, model.shape)
    torch.testing.assert_close(added, model.variance / (1 - eta / 2))


def test_a_sweep_of_gibbs_langevin_moves_towards_the_mean_of_its_hidden_units():
    model, x = gaussian(), torch.zeros(4000, 3, dtype=torch.float64)
    model.W.data.zero_()
    sampler = GibbsLangevin(1, 3, 0.2)
    y = sampler(model, x, generator()).detach()
    factor, added = sampler.moments(model, model.shape)
    added = added.detach()
    z = (y.mean(0) - (1 - factor) * model.mu.detach()) / (added / len(y)).sqrt()
    assert z.abs().max() < 4
    assert ((y.var(0) / added - 1).abs() / (2 / len(y)) ** 0.5).max() < 4


@pytest.mark.parametrize(("sampler", "make"), [(Gibbs(1), lambda: binary(3)), (GibbsLangevin(1), gaussian)])
def test_the_carry_is_the_logits_at_the_end_of_the_chain(sampler, make):
    model = make()
    x, (move,) = torch.ones(4, 3, dtype=torch.float64), sampler.plan(model, (1, 2))
    y, carry = sampler.step(model, x, move, None, generator())
    torch.testing.assert_close(carry, model.logits(y))
    again, _ = sampler.step(model, x, move, model.logits(x), generator())
    torch.testing.assert_close(again, y)


@pytest.mark.parametrize("sampler", [Gibbs(5), GibbsLangevin(5, 2, 0.3)])
def test_a_chain_with_its_carry_is_the_chain_without_it(sampler):
    model, x = gaussian(), torch.ones(4, 3, dtype=torch.float64)
    carried, g = sampler(model, x, generator(1)), generator(1)
    for move in sampler.plan(model, (1, 2)):
        x, _ = sampler.step(model, x, move, None, g)
    torch.testing.assert_close(x, carried, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [Gibbs, GibbsLangevin])
def test_the_mean_of_a_gaussian_rbm_is_that_of_its_last_hidden_units(kind):
    model, x = gaussian(), torch.ones(50, 3, dtype=torch.float64)
    result = kind(2, mean=True)(model, x, generator(1)).detach()
    means = model.mixture()[1].detach()
    assert float((result[:, None] - means).abs().amax(2).amin(1).max()) < 1e-12
    drawn = kind(2)(model, x, generator(1)).detach()
    assert float((drawn[:, None] - means).abs().amax(2).amin(1).min()) > 1e-6


def test_the_mean_comes_last_only_where_it_is_asked_for():
    model = binary(5, 3)
    drawn, mean = (Gibbs(3, mean).draw(model, (50, 5), generator()).detach() for mean in (False, True))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert float(mean.min()) > 0 and float(mean.max()) < 1 and len(mean.unique()) > 8
    *_, before, _ = Gibbs(3, mean=True).trajectory(model, model.prior((50, 5), generator()), generator(1))
    assert set(before.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("sampler", "model", "sentence"),
    [
        (Langevin(2), RBM(3, 2), "RBM.*choose Gibbs"),
        (MALA(2), RBM(3, 2), "RBM.*choose Gibbs"),
        (Gibbs(2), Denoiser(MLP((2,), 8, 1), VP(), "noise"), "Gibbs.*Denoiser"),
        (GibbsLangevin(2), RBM(3, 2), "GibbsLangevin.*Gaussian.*RBM.*choose Gibbs"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(sampler, model, sentence):
    with pytest.raises(TypeError, match=sentence):
        sampler.check(model)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"inner": 0}, {"step_size": 0.0}, {"step_size": 2.0}])
def test_wrong_options_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name}.*{wrong[name]}"):
        GibbsLangevin(**wrong)


def test_temperature_widens_what_is_reached():
    """exp(-E / T) of a Gaussian has variance T; unadjusted Langevin's T / (1 - eta / 2)."""
    model = GaussianBernoulliRBM(1, 1).double()
    model.W.data.zero_()
    for sampler, truth in (
        (MALA(60, 0.8, temperature=2.0), 2.0),
        (HMC(20, 0.4, 3, temperature=0.5), 0.5),
        (Langevin(60, 0.4, temperature=2.0), 2.0 / (1 - 0.2)),
    ):
        x = sampler(model, torch.zeros(20000, 1, dtype=torch.float64), generator()).detach()
        assert abs(float(x.var()) / truth - 1) < 4 * (2 / len(x)) ** 0.5
    with pytest.raises(ValueError, match="temperature"):
        Langevin(temperature=0.0)


def test_hmcs_energy_error_falls_with_the_square_of_its_step():
    model = gaussian(2, 3)
    x = model.prior((200, 2), generator()).double()
    shares = []
    for size in (0.8, 0.1):
        sampler = HMC(1, size, round(1.6 / size))
        _, carry = sampler.step(model, x, sampler.plan(model, (1, 2))[0], (), generator(1))
        shares.append(float(carry[2].mean()))
    assert shares[0] < shares[1] and shares[1] > 0.99

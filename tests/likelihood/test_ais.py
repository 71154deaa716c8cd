"""Annealed importance sampling against RBMs whose log Z can be listed, Gaussians, and exact samples."""

import math

import pytest
import torch

from lightning_gen.likelihood import (
    EnergyPath,
    GaussianPath,
    RBMPath,
    annealing_path,
    log_weights,
    partition,
    temperatures,
    tuned_steps,
)
from lightning_gen.models import RBM, GaussianBernoulliRBM
from lightning_gen.models.rbm import states
from lightning_gen.samplers import HMC, MALA
from tests.energies import Quadratic

F64 = {"dtype": torch.float64}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rbm(seed, scale=1.0, visible=16, hidden=10, kind=RBM):
    model = kind(visible, hidden, std=scale).double()
    g = generator(seed)
    for name, parameter in model.named_parameters():
        size = {"W": scale, "log_variance": 0.3}.get(name, 0.5)
        size = size / 4 if kind is GaussianBernoulliRBM and name == "W" else size
        parameter.data = size * torch.randn(parameter.shape, generator=g, dtype=torch.float64)
    return model


def path_of(model, seed=0):
    size = len(model.W)
    base = 0.5 * torch.randn(size, generator=generator(100 + seed), dtype=torch.float64)
    if isinstance(model, RBM):
        return RBMPath(model, base)
    return GaussianPath(model, base, 1 + base.square())


@pytest.mark.parametrize("seed", [pytest.param(n, marks=pytest.mark.slow if n > 1 else ()) for n in range(20)])
def test_forward_and_reverse_estimate_the_exact_constant_of_twenty_rbms(seed):
    """The gate of the specification: 500 chains, 1,000 temperatures, within 4 s.e. and 0.02 nats."""
    model = rbm(seed, 0.5)
    path, betas, truth = path_of(model, seed), temperatures(1000), float(model.exact_log_z().detach())
    forward = partition(path, log_weights(path, betas, path.start(500, generator(seed)), generator(seed + 1)))
    assert abs(forward.log_z - truth) < min(4 * forward.error, 0.02)
    samples = model.draw((500, *model.shape), generator(seed + 2))
    backward = partition(path, log_weights(path, betas, samples, generator(seed + 3), reverse=True), reverse=True)
    assert abs(backward.log_z - truth) < min(4 * backward.error, 0.02)
    assert 400 < forward.ess <= 500


def test_weights_of_scale_two_are_within_a_twentieth_of_a_nat():
    model = rbm(1, 2.0)
    path, truth = path_of(model), float(model.exact_log_z().detach())
    result = partition(path, log_weights(path, temperatures(1000), path.start(500, generator(0)), generator(1)))
    assert abs(result.log_z - truth) < min(max(4 * result.error, 0.02), 0.05 if result.error < 0.0125 else 1)


@pytest.mark.parametrize("kind", [RBM, GaussianBernoulliRBM])
def test_both_sides_bound_the_constant_where_the_path_is_short(kind):
    """With few temperatures the gap opens, forward below and reverse above in expectation."""
    model = rbm(3, 1.5, kind=kind)
    path, betas, truth = path_of(model), temperatures(10), float(model.exact_log_z().detach())
    forward = log_weights(path, betas, path.start(2000, generator(0)), generator(1))
    backward = log_weights(path, betas, model.draw((2000, *model.shape), generator(2)), generator(3), reverse=True)
    below, above = path.log_z0 + forward, path.log_z0 - backward
    for values, sign in ((below, 1), (above, -1)):
        gap = sign * (truth - values.mean()) / (values.std() / len(values) ** 0.5)
        assert gap > 4
    assert abs(partition(path, forward).log_z - truth) < 1


@pytest.mark.parametrize("kind", [RBM, GaussianBernoulliRBM])
def test_forward_weights_are_unbiased_for_z(kind):
    model = rbm(5, 1.0, kind=kind)
    path, truth = path_of(model), float(model.exact_log_z().detach())
    w = (path.log_z0 + log_weights(path, temperatures(50), path.start(20000, generator(0)), generator(1)) - truth).exp()
    assert abs(float((w.mean() - 1) / (w.std() / len(w) ** 0.5))) < 4


def test_a_gaussian_rbm_against_its_mixture():
    model = rbm(2, 1.0, visible=6, hidden=5, kind=GaussianBernoulliRBM)
    path, truth = path_of(model), float(model.exact_log_z().detach())
    result = partition(path, log_weights(path, temperatures(1000), path.start(500, generator(0)), generator(1)))
    assert abs(result.log_z - truth) < 4 * result.error < 0.2


@pytest.mark.parametrize(("visible", "hidden"), [(5, 7), (7, 5)])
def test_exact_samples_have_the_rbms_law(visible, hidden):
    model, n = rbm(4, 1.0, visible, hidden), 20000
    v = model.draw((n, *model.shape), generator(0))
    everything = states(visible)
    p = (-model.energy(everything) - model.exact_log_z()).exp().detach()
    number = (v * 2 ** torch.arange(visible)).sum(1).long()
    counts = torch.bincount(number, minlength=2**visible)
    chi2 = float(((counts - n * p).square() / (n * p)).sum())
    degrees = 2**visible - 1
    assert abs(chi2 - degrees) < 4 * (2 * degrees) ** 0.5


def test_exact_samples_of_a_gaussian_rbm_have_its_moments():
    model = rbm(4, 1.0, 3, 4, GaussianBernoulliRBM)
    v = model.draw((50000, *model.shape), generator(0)).detach()
    logits, means, variance = (value.detach() for value in model.mixture())
    w = logits.softmax(0)
    mean = w @ means
    second = w @ (means.square() + variance)
    for result, truth in ((v, mean), (v.square(), second)):
        z = (result.mean(0) - truth) / (result.std(0) / len(v) ** 0.5)
        assert z.abs().max() < 4


def narrow(sampler, scale=1.0):
    """From N(0, 2) to N(1, scale^2 / 16) in eight dimensions, where one step size does not do."""
    size = torch.full((8,), 2.0, dtype=torch.float64)
    return EnergyPath(Quadratic([16.0 / scale**2] * 8, 1.0), torch.zeros(8, dtype=torch.float64), size, sampler)


def shares(path, betas, n=400):
    """The share of proposals taken at every temperature."""
    g, result = generator(7), []
    v = path.start(n, g)
    seen = path.evaluate(v)
    for beta in betas[1:-1]:
        v, seen, taken = path.propose(v, seen, beta, path.sizes.get(beta, path.sampler.step_size), g)
        result.append(float(taken.mean()))
    return torch.tensor(result)


@pytest.mark.parametrize("wild", [1e-6, pytest.param(1e3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", [lambda size: MALA(1, size), lambda size: HMC(1, size, 5)])
def test_step_sizes_are_tuned_at_every_temperature(make, wild):
    path, betas = narrow(make(wild)), temperatures(400)
    assert (shares(path, betas) - path.sampler.optimal_acceptance).abs().min() > 0.3
    path.sizes = tuned_steps(path, betas, 50, generator(3))
    assert list(path.sizes) == betas[1:-1]
    blocks = shares(path, betas).reshape(-1)[:390].view(39, 10).mean(1)
    assert (blocks - path.sampler.optimal_acceptance).abs().max() < 0.15
    assert abs(float(blocks.mean()) - path.sampler.optimal_acceptance) < 0.03


@pytest.mark.parametrize(("sampler", "power"), [(MALA(1, 0.1), 2), (HMC(1, 0.1, 5), 1)])
def test_step_sizes_grow_with_the_scale_as_the_dynamics_say(sampler, power):
    """eta of a diffusion has the unit of a square, a leapfrog that of a length."""
    last = []
    for scale in (1.0, 0.1):
        sizes = tuned_steps(narrow(sampler, scale), temperatures(400), 50, generator(3))
        last.append(sum(math.log(sizes[beta]) for beta in list(sizes)[-40:]) / 40)
    assert last[0] - last[1] == pytest.approx(power * math.log(10), abs=0.3)


def test_tuning_shrinks_the_error_and_keeps_z():
    betas, truth = temperatures(300), 4 * math.log(2 * math.pi / 16)
    result = []
    for tune in (False, True):
        path = narrow(MALA(1, 1e-3))
        if tune:
            path.sizes = tuned_steps(path, betas, 50, generator(3))
        weights = log_weights(path, betas, path.start(2000, generator(0)), generator(1))
        z = partition(path, weights)
        result.append(z)
        w = (path.log_z0 + weights - truth).exp()
        assert abs(float((w.mean() - 1) / (w.std() / len(w) ** 0.5))) < 4
    assert result[1].error < 0.5 * result[0].error and result[1].ess > 2 * result[0].ess


def test_a_temperature_costs_one_evaluation():
    for sampler, each in ((MALA(1, 0.2), 1), (HMC(1, 0.3, 5), 5)):
        model = Quadratic(mean=1.0)
        path = EnergyPath(model, torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64), sampler)
        log_weights(path, temperatures(30), path.start(4, generator()), generator(1))
        assert model.calls == 1 + 29 * each


@pytest.mark.parametrize(("sampler", "size"), [(MALA(1, 0.2), 0.1), (HMC(1, 0.3, 5), 0.5)])
def test_a_proposal_returns_energy_and_score_of_its_end(sampler, size):
    path = narrow(sampler)
    v = 1 + 0.3 * torch.randn(200, 8, generator=generator(), dtype=torch.float64)
    moved, seen, taken = path.propose(v, path.evaluate(v), 0.5, size, generator(1))
    assert 0 < taken.mean() < 1 and ((moved != v).all(1) == taken.bool()).all()
    for one, other in zip(seen, path.evaluate(moved), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("sampler", [MALA(1, 0.2), HMC(1, 0.3, 5)])
def test_any_energy_by_proposals_that_are_accepted_or_not(sampler):
    model = Quadratic([1.0, 4.0, 0.5], 1.0, 2.0)
    truth = float(0.5 * (3 * math.log(2 * math.pi) - model.precision.log().sum()) - 2.0)
    path = EnergyPath(model, torch.zeros(3, dtype=torch.float64), torch.full((3,), 2.0, dtype=torch.float64), sampler)
    betas = temperatures(300)
    result = partition(path, log_weights(path, betas, path.start(500, generator(0)), generator(1)))
    assert abs(result.log_z - truth) < 4 * result.error < 0.2
    exact = 1 + torch.randn(500, 3, generator=generator(2), dtype=torch.float64) / model.precision.sqrt()
    back = partition(path, log_weights(path, betas, exact, generator(3), reverse=True), reverse=True)
    assert abs(back.log_z - truth) < 4 * back.error < 0.2
    assert 0.3 < path.acceptance() < 1


def test_the_base_alone_is_its_own_constant():
    """An RBM without weights, at its own marginals: all weights are equal."""
    model = rbm(0)
    model.W.data.zero_()
    path = RBMPath(model, model.b.detach())
    weights = log_weights(path, [0.0, 1.0], path.start(10, generator(0)), generator(1))
    result = partition(path, weights)
    assert result.log_z == pytest.approx(float(model.exact_log_z().detach()), abs=1e-10)
    assert result.ess == pytest.approx(10)


def test_the_papers_temperatures():
    betas = temperatures("salakhutdinov")
    assert len(betas) == 14501
    assert betas[0] == 0 and betas[-1] == 1 and betas == sorted(set(betas))
    assert betas[500] == 0.5 and betas[4500] == pytest.approx(0.9)
    assert betas[1] == pytest.approx(1e-3) and betas[501] - 0.5 == pytest.approx(1e-4)
    assert betas[-1] - betas[-2] == pytest.approx(1e-5)
    assert temperatures(4) == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("schedule", ["linear", 0])
def test_a_wrong_schedule_is_refused(schedule):
    with pytest.raises(ValueError, match=f"schedule.*{schedule}.*salakhutdinov"):
        temperatures(schedule)


def test_progress_counts_the_temperatures():
    model, calls = rbm(0), []
    path = path_of(model)
    log_weights(path, temperatures(7), path.start(2, generator(0)), generator(1), progress=lambda: calls.append(1))
    assert len(calls) == 7


def test_log_z_is_that_of_the_mean_weight_with_its_error_and_ess():
    path = path_of(rbm(0))
    result = partition(path, torch.tensor([1.0, 3.0], dtype=torch.float64).log())
    assert result.log_z == pytest.approx(path.log_z0 + math.log(2))
    assert result.error == pytest.approx(2**0.5 / 2 / 2**0.5)  # deviation of w / mean w over sqrt n
    assert result.ess == pytest.approx(16 / 10)
    back = partition(path, torch.tensor([1.0, 3.0], dtype=torch.float64).log(), reverse=True)
    assert back.log_z == pytest.approx(path.log_z0 - math.log(2))


def test_the_path_of_a_model_starts_at_the_datas_marginals():
    """Of binary units at the log odds of their means, of real ones at mean and variance, which has a floor."""
    mean, variance = torch.tensor([0.2, 0.5, 0.999], **F64), torch.tensor([1.0, 0.5, 1e-6], **F64)
    path = annealing_path(RBM(3, 2).double(), mean, variance, MALA(1))
    torch.testing.assert_close(path.base, torch.tensor([math.log(0.25), 0.0, math.log(99)], **F64))
    torch.testing.assert_close(path.start(20_000, generator(0)).mean(0), mean.clamp(max=0.99), rtol=0, atol=0.02)
    path = annealing_path(GaussianBernoulliRBM(3, 2).double(), mean, variance, MALA(1))
    torch.testing.assert_close(path.variance, torch.tensor([1.0, 0.5, 0.01], **F64))
    x = path.start(20_000, generator(0))
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.04)
    torch.testing.assert_close(x.var(0), path.variance, rtol=0.06, atol=0)

"""Hamiltonian Monte Carlo: the law that it keeps, its leapfrogs, and the test that takes or leaves their end."""

import math

import pytest
import torch

from lightning_gen.models import SmoothEnergy
from lightning_gen.process import Clean
from lightning_gen.samplers import HMC, MALA, Langevin
from tests.energies import DoubleWell, Quadratic
from tests.samplers.test_mcmc import CHAINS, F64, z_of_variance


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def proposed(sampler, model, x, momentum):
    """Place and momentum after the leapfrogs, written out: half a kick, drifts and kicks in turn, half a kick."""
    size, heat = sampler.step_size, sampler.temperature
    force = lambda x: model.energy_and_score(x)[1] / heat  # noqa: E731
    momentum = momentum + 0.5 * size * force(x)
    for i in range(sampler.leapfrogs):
        x = x + size * momentum
        momentum = momentum + (1.0 if i < sampler.leapfrogs - 1 else 0.5) * size * force(x)
    return x, momentum


def hamiltonian(model, x, momentum, heat=1.0):
    return model.energy(x) / heat + 0.5 * momentum.flatten(1).square().sum(1)


@pytest.mark.parametrize("heat", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("name", ["hmc", "mala"])
def test_a_chain_with_a_metropolis_test_has_the_variance_of_its_temperature(name, heat):
    """exp(-x^2 / 2T), 20,000 chains started in that law and far too wide, |z| <= 4, however coarse the step."""
    for size in (0.4, 1.3):
        step = size * math.sqrt(heat)  # momenta have mass 1: lengths grow by sqrt(T)
        sampler = HMC(15, step, 3, temperature=heat) if name == "hmc" else MALA(60, 0.5 * size, temperature=heat)
        for start in (heat, 9 * heat):
            x = start**0.5 * torch.randn(CHAINS, 1, generator=generator(), **F64)
            assert abs(z_of_variance(sampler(Quadratic(), x, generator(1)), heat)) <= 4


@pytest.mark.parametrize("heat", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("eta", [0.2, 1.0])
def test_langevins_variance_is_the_temperatures_over_one_less_half_a_step(heat, eta):
    """T / (1 - eta / 2) on E = x^2 / 2: x <- (1 - eta) x + sqrt(2 eta T) z; without the test the bias stays."""
    x = heat**0.5 * torch.randn(CHAINS, 1, generator=generator(), **F64)
    result = Langevin(round(10 / eta), eta, temperature=heat)(Quadratic(), x, generator(1))
    assert abs(z_of_variance(result, heat / (1 - eta / 2))) <= 4
    assert abs(z_of_variance(result, heat)) > 8


@pytest.mark.parametrize("heat", [1.0, 2.0])
def test_the_double_well_is_invariant_at_its_temperature(heat):
    """Chains of the double well started in exp(-E / T), by rejection, keep its second moment and its share inside."""
    g = generator()
    proposals = 5 * torch.rand(400_000, 1, generator=g, **F64) - 2.5
    kept = torch.rand(len(proposals), generator=g, **F64) < (-DoubleWell().energy(proposals) / heat).exp()
    x = proposals[kept][:CHAINS]
    moved = HMC(10, 0.35, 4, temperature=heat)(DoubleWell(), x, g)
    for moment in (lambda x: x.square(), lambda x: (x.abs() < 0.8).double()):
        a, b = moment(x), moment(moved)
        assert abs(float((a - b).mean())) <= 4 * float((a.var() + b.var()) / len(x)) ** 0.5
    assert not torch.equal(x, moved)


@pytest.mark.parametrize("heat", [1.0, 2.0])
def test_a_proposal_is_the_leapfrogs_end_and_is_taken_as_often_as_its_energy_says(heat):
    """A step against the scheme written out: the same position, and u < exp(-dH / T), chain by chain."""
    sampler, model = HMC(1, 0.45, 3, temperature=heat), DoubleWell()
    x = torch.randn(500, 1, generator=generator(), **F64)
    moved, carry = sampler.step(model, x, sampler.plan(model, (1, 2))[0], None, generator(1))
    g = generator(1)
    momentum = torch.randn(x.shape, generator=g, **F64)
    position, end = proposed(sampler, model, x, momentum)
    u = torch.rand(len(x), generator=g, **F64)
    accept = u < (hamiltonian(model, x, momentum, heat) - hamiltonian(model, position, end, heat)).exp()
    assert 50 < int(accept.sum()) < 450
    torch.testing.assert_close(moved, torch.where(accept[:, None], position, x), rtol=1e-12, atol=1e-12)
    energy, score = model.energy_and_score(moved)
    torch.testing.assert_close(carry[0], energy, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(carry[1], score, rtol=1e-12, atol=1e-12)
    assert torch.equal(carry[2], accept.to(carry[2].dtype)) and carry[3] == 1


def momenta(draw):
    """A generator's normal numbers are `draw`: what the next step will take for its momenta."""
    return lambda x, generator: draw


def test_turned_round_the_leapfrogs_go_back_where_they_came_from(monkeypatch):
    """By the sampler's own steps, so small that all are taken: with the momentum reversed, to 1e-12."""
    sampler, model, x = HMC(1, 0.01, 40), DoubleWell(), torch.randn(50, 1, generator=generator(), **F64)
    momentum = torch.randn(x.shape, generator=generator(2), **F64)
    position, end = proposed(sampler, model, x, momentum)
    move = sampler.plan(model, (1, 2))[0]
    for start, draw, goal in ((x, momentum, position), (position, -end, x)):
        monkeypatch.setattr("lightning_gen.samplers.hmc.noise_like", momenta(draw))
        result, carry = sampler.step(model, start, move, None, generator(3))
        assert bool(carry[2].all())
        torch.testing.assert_close(result, goal, rtol=0, atol=1e-12)
    assert (position - x).abs().mean() > 0.1


def test_the_energys_error_is_of_second_order():
    """Over a path of length 1.6: a step half as long errs a quarter as much; and what is refused falls with it."""
    model, x = DoubleWell(), 0.8 * torch.randn(2000, 1, generator=generator(), **F64)
    momentum, errors, refused = torch.randn(x.shape, generator=generator(1), **F64), [], []
    for steps in (32, 64, 128):
        sampler = HMC(1, 1.6 / steps, steps)
        position, end = proposed(sampler, model, x, momentum)
        change = hamiltonian(model, position, end) - hamiltonian(model, x, momentum)
        errors.append(float(change.square().mean().sqrt()))
        _, carry = sampler.step(model, x, sampler.plan(model, (1, 2))[0], None, generator(1))  # the same momenta
        expected = 1 - change.neg().exp().clamp(max=1)
        spread = (expected * (1 - expected)).sum().sqrt()
        assert abs(float(((1 - carry[2].double()) - expected).sum() / spread)) <= 4
        refused.append(float(expected.mean()))
    for order in (math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)):
        assert order == pytest.approx(2, abs=0.15)
    assert refused[0] > 3 * refused[1] > 9 * refused[2]


def test_one_leapfrog_is_mala():
    """A step of size eps is a Langevin proposal of eta = eps^2 / 2, with the same test: equal draws, one chain."""
    size, x = 0.7, torch.randn(300, 1, generator=generator(), **F64)
    chains = [sampler(DoubleWell(), x, generator(1)) for sampler in (HMC(20, size, 1), MALA(20, size**2 / 2))]
    torch.testing.assert_close(*chains, rtol=0, atol=1e-10)
    assert not torch.equal(chains[0], x)


class Wall(SmoothEnergy):
    """E = x^2 / 2 for x > 0; beyond there is nothing, or a number that is none."""

    def __init__(self, beyond):
        super().__init__(Clean())
        self.beyond = beyond

    def energy(self, x):
        return torch.where(x > 0, 0.5 * x.square(), self.beyond * torch.ones_like(x)).flatten(1).sum(1)


@pytest.mark.parametrize("beyond", [math.inf, math.nan])
@pytest.mark.parametrize("sampler", [HMC(40, 0.5, 3), MALA(200, 0.3)], ids=["hmc", "mala"])
def test_a_proposal_without_a_finite_energy_is_not_taken(sampler, beyond):
    """And the law is that of a half: the second moment stays 1, |z| <= 4."""
    x = torch.randn(CHAINS, 1, generator=generator(), **F64).abs()
    moved = sampler(Wall(beyond), x, generator(1))
    assert bool((moved > 0).all())
    assert abs(z_of_variance(moved, 1.0)) <= 4
    assert not torch.equal(moved, x)


def test_calls_are_the_planned_ones_and_the_share_is_what_moved():
    model, sampler, calls = Quadratic(), HMC(9, 1.7, 4), []
    energy = model.energy
    model.energy = lambda x: calls.append(len(x)) or energy(x)
    x, g, carry = torch.randn(400, 2, generator=generator(), **F64), generator(1), None
    moves = torch.zeros(400)
    for transition in sampler.plan(model, (1, 2)):
        before = x
        x, carry = sampler.step(model, x, transition, carry, g)
        moves += (x != before).any(1)
    assert len(calls) == sampler.evaluations(model, (1, 2)) == 9 * 4 + 1
    torch.testing.assert_close(carry[2], moves / 9)
    assert 0.2 < float(carry[2].mean()) < 0.98


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chains_of_images_are_a_function_of_their_generator(dtype):
    x, sampler = torch.zeros(2, 3, 2, 2, dtype=dtype), HMC(4, 0.2, 3)
    first, second, other = (sampler(Quadratic(), x, generator(seed)) for seed in (1, 1, 2))
    assert first.dtype == dtype and first.shape == x.shape
    assert torch.equal(first, second) and not torch.equal(first, other)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: HMC(0), "steps.*0"),
        (lambda: HMC(leapfrogs=0), "leapfrogs.*0"),
        (lambda: HMC(step_size=0.0), "step_size.*0"),
        (lambda: HMC(temperature=0.0), "temperature.*0"),
        (lambda: MALA(temperature=-1.0), "temperature.*-1"),
        (lambda: HMC(start="prior").check(Quadratic()), "sampler.start.*prior"),
    ],
)
def test_what_has_no_chain_gets_one_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()

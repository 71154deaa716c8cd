"""Markov chains: their stationary laws, conventions and steps."""

import math

import pytest
import torch

from lightning_gen.models import EnergyModel, ScoreModel
from lightning_gen.process import VE, Clean
from lightning_gen.samplers import MALA, AnnealedLangevin, Langevin
from lightning_gen.samplers.mcmc import technique4
from tests.gaussian import Gaussian

F64 = {"dtype": torch.float64}
CHAINS = 20_000


class Normal(EnergyModel):
    """N(0, 1): E = x^2 / 2."""

    def __init__(self):
        super().__init__(Clean())

    def energy(self, x):
        return 0.5 * x.square().flatten(1).sum(1)


class Double(EnergyModel):
    """A double well in one dimension, E = (x^2 - 1)^2 / (2 * 0.3)."""

    def __init__(self):
        super().__init__(Clean())

    def energy(self, x):
        return ((x.square() - 1).square() / 0.6).flatten(1).sum(1)


def z_of_variance(x, variance):
    return (float(x.square().mean()) / variance - 1) * math.sqrt(len(x) / 2)


@pytest.mark.parametrize("eta", [0.1, 0.5, 1.0])
def test_the_stationary_variance_is_biased_for_ula_and_right_for_mala(eta):
    """1 / (1 - eta / 2) and 1 on N(0, 1), 20,000 chains started in either law, |z| <= 4."""
    steps, g = round(8 / eta), torch.Generator().manual_seed(0)
    for sampler, variance in ((Langevin(steps, eta), 1 / (1 - eta / 2)), (MALA(steps, eta), 1.0)):
        for start in (1 / (1 - eta / 2), 1.0):
            x = start**0.5 * torch.randn(CHAINS, 1, generator=g, **F64)
            assert abs(z_of_variance(sampler(Normal(), x, g), variance)) <= 4


def test_mala_leaves_another_density_as_it_is():
    """Chains of the double well started in its law (by rejection) keep its second moment and its share inside."""
    g = torch.Generator().manual_seed(0)
    proposals = 4 * torch.rand(400_000, 1, generator=g, **F64) - 2
    x = proposals[torch.rand(len(proposals), generator=g, **F64) < (-Double().energy(proposals)).exp()][:CHAINS]
    moved = MALA(30, 0.1)(Double(), x, g)
    for moment in (lambda x: x.square(), lambda x: (x.abs() < 0.8).double()):
        a, b = moment(x), moment(moved)
        assert abs(float((a - b).mean())) <= 4 * float((a.var() + b.var()) / len(x)) ** 0.5
    assert not torch.equal(x, moved)


def test_malas_carry_is_its_share_of_accepted_proposals():
    sampler, g, carry = MALA(200, 1.0), torch.Generator().manual_seed(0), None
    x = torch.randn(500, 1, generator=g, **F64)
    moves = torch.zeros(500)
    for transition in sampler.plan(Clean()):
        before = x
        x, carry = sampler.step(Normal(), x, transition, carry, g)
        moves += (x != before).flatten()
    torch.testing.assert_close(carry[2], moves / 200)
    assert 0.7 < float(carry[2].mean()) < 0.99
    torch.testing.assert_close(carry[0], Normal().energy(x))
    torch.testing.assert_close(carry[1], -x)


def test_both_conventions_are_one_chain():
    """eps = 2 eta; and a step is written out."""
    x, eta = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), **F64), 0.03
    chains = [
        sampler(Normal(), x, torch.Generator().manual_seed(1))
        for sampler in (Langevin(20, eta), Langevin(20, 2 * eta, "epsilon"))
    ]
    assert torch.equal(*chains)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), **F64)
    one = Langevin(1, eta)(Normal(), x, torch.Generator().manual_seed(1))
    torch.testing.assert_close(one, x - eta * x + math.sqrt(2 * eta) * z)


def test_langevin_reaches_the_noised_density_and_tweedie_takes_the_noise_out():
    """The notes say that the chain of a score at level sigma ends in the data's law."""
    data, sigma = 0.5, 0.8
    model = Gaussian(VE(sigma, sigma), torch.zeros(1), torch.full((1, 1), data))
    g = torch.Generator().manual_seed(0)
    x = torch.randn(CHAINS, 1, generator=g, **F64)
    eta = 0.05
    noised = data + sigma**2
    chain = Langevin(300, eta)(model, x, g)
    assert abs(z_of_variance(chain, noised / (1 - eta / noised / 2))) <= 4
    assert abs(z_of_variance(chain, data)) > 20
    clean = Langevin(300, eta, denoise=True)(model, x, torch.Generator().manual_seed(2))
    same = Langevin(300, eta)(model, x, torch.Generator().manual_seed(2))
    torch.testing.assert_close(clean, same * data / noised)


class Zero(ScoreModel):
    """A score of zero leaves the noise of a step alone; of one, its drift."""

    def __init__(self, value):
        super().__init__(VE(0.1, 10.0, levels=3))
        self.value = value

    def score(self, x, t):
        return torch.full_like(x, self.value)


@pytest.mark.parametrize(("rule", "drift", "noise"), [("v1", 0.5, 1), ("v1_code", 1, 2), ("technique4", 1, 2)])
def test_the_papers_step_is_half_of_its_codes(rule, drift, noise):
    """NCSN's algorithm 1: x + (alpha_i / 2) s + sqrt(alpha_i) z, alpha_i = eps sigma_i^2 / sigma_L^2."""
    sampler = AnnealedLangevin(steps_each=2, step_rule=rule, epsilon=1e-3, denoise=False)
    plan = sampler.plan(Zero(0.0).process)
    assert [step.t for step in plan] == [1, 1, 0.5, 0.5, 0, 0]
    for step, sigma in zip(plan, (10, 10, 1, 1, 0.1, 0.1), strict=True):
        alpha = 1e-3 * (sigma / 0.1) ** 2
        assert step.coefficients == pytest.approx((drift * alpha, math.sqrt(noise * alpha)))
    x, g = torch.zeros(2, 1, **F64), torch.Generator().manual_seed(0)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), **F64)
    moved, _ = sampler.step(Zero(1.0), x, plan[0], None, g)
    torch.testing.assert_close(moved, plan[0].coefficients[0] + plan[0].coefficients[1] * z)


def test_technique_four_finds_the_papers_step():
    """NCSNv2, CIFAR-10: 232 levels from 50 to 0.01, T = 5: epsilon 6.2e-6; and it is where the variance is nearest."""
    ratio = (50 / 0.01) ** (1 / 231)
    assert technique4(0.01, ratio, 5) == pytest.approx(6.2e-6, rel=0.1)

    def left(u):
        variance = ratio**2
        for _ in range(5):  # x <- (1 - u) x + sqrt(2 u) z on N(0, 1)
            variance = (1 - u) ** 2 * variance + 2 * u
        return abs(variance - 1)

    u = technique4(0.01, ratio, 5) / 0.01**2
    assert left(u) <= min(left(1.1 * u), left(0.9 * u))


def test_chains_start_where_they_are_told():
    g = torch.Generator().manual_seed(0)
    model = Zero(0.0)
    uniform = Langevin(start="uniform", spread=3.0).start(model, (CHAINS, 1), g)
    assert uniform.abs().max() <= 3 and float(uniform.std()) == pytest.approx(3 / 3**0.5, rel=0.02)
    assert float(Langevin(spread=2.0).start(model, (CHAINS, 1), g).std()) == pytest.approx(2, rel=0.02)
    assert float(AnnealedLangevin().start(model, (CHAINS, 1), g).std()) == pytest.approx(10, rel=0.02)

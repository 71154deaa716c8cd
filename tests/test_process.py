"""The laws of every process: its SDE reproduces its moments, the inverse of its noise level, its grid."""

import math

import pytest
import torch

from lightning_gen.process import (
    VE,
    VP,
    Clean,
    DiscreteVP,
    Interpolant,
    Process,
    SubVP,
    cosine_betas,
    derivative,
    linear_betas,
)
from tests.gaussian import PROCESSES

SMOOTH = ["vp", "subvp", "ve", "ve from zero"]


@pytest.fixture(params=PROCESSES)
def process(request):
    return PROCESSES[request.param]()


def test_noise_grows_from_almost_none(process):
    t = torch.linspace(0, 1, 201, dtype=torch.float64)
    snr = process.snr(t)
    assert process.alpha(t)[0] == 1
    assert process.variance(t)[0] <= 1e-4 + 1e-12
    assert (snr[1:] < snr[:-1]).all()


class Cubic(VP):
    """log alpha cubic in t."""

    def log_alpha(self, t):
        return -5 * t**3 - 0.001 * t


class Louder(VP):
    """A VP of 1.5 times its variance."""

    def variance(self, t):
        return 1.5 * super().variance(t)


@pytest.mark.parametrize("kind", [Cubic, Louder])
def test_the_times_of_a_derived_class_are_by_its_own_moments(kind):
    process, t = kind(), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    torch.testing.assert_close(process.time(process.snr(t)), t, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_sde_reproduces_mean_and_variance(name):
    """dm = f m dt, dv = (2 f v + g^2) dt, by Runge-Kutta from t = 0.1: drift's sign, factor 2 and root are in here."""
    process = PROCESSES[name]()
    steps, start = 600, 0.1
    h = (1 - start) / steps
    t = torch.tensor(start, dtype=torch.float64)
    state = torch.stack([process.alpha(t), process.variance(t)])

    def slope(t, state):
        f, g2 = process.sde(t)
        return torch.stack([f * state[0], 2 * f * state[1] + g2])

    for _ in range(steps):
        k1 = slope(t, state)
        k2 = slope(t + h / 2, state + h / 2 * k1)
        k3 = slope(t + h / 2, state + h / 2 * k2)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(t + h, state + h * k3))
        t = t + h
    one = torch.ones((), dtype=torch.float64)
    torch.testing.assert_close(state, torch.stack([process.alpha(one), process.variance(one)]), rtol=1e-7, atol=1e-7)


def test_vp_has_drift_half_beta_and_diffusion_beta():
    t = torch.linspace(0.01, 1, 50, dtype=torch.float64)
    beta = 0.1 + t * (20 - 0.1)
    f, g2 = VP().sde(t)
    torch.testing.assert_close(f, -beta / 2, rtol=1e-12, atol=0)
    torch.testing.assert_close(g2, beta, rtol=1e-10, atol=0)


def test_vp_marginal_variance_has_the_whole_integral_of_beta():
    """Errata: the covariance is I + e^{-int beta}(cov_0 - I), not e^{-int beta / 2}."""
    t, cov = torch.tensor(0.3, dtype=torch.float64), 4.0
    integral = 0.1 * 0.3 + 0.5 * (20 - 0.1) * 0.3**2
    marginal = VP().alpha(t) ** 2 * cov + VP().variance(t)
    assert float(marginal) == pytest.approx(1 + math.exp(-integral) * (cov - 1), rel=1e-12)
    assert float(marginal) != pytest.approx(1 + math.exp(-integral / 2) * (cov - 1), rel=1e-2)


def test_subvp_sigma_is_the_square_of_vps():
    t = torch.linspace(0, 1, 20, dtype=torch.float64)
    torch.testing.assert_close(SubVP().sigma(t), VP().variance(t))
    assert (SubVP().variance(t) <= VP().variance(t)).all()


def test_ve_says_what_its_first_level_is():
    zero, half = torch.zeros((), dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    assert float(VE(0.01, 50).sigma(zero)) == pytest.approx(0.01)
    assert float(VE(0.01, 50, "zero").sigma(zero)) == 0
    assert float(VE(0.01, 50).sigma(half)) == pytest.approx(math.sqrt(0.01 * 50))
    torch.testing.assert_close(VE(start="zero").sde(half)[1], VE().sde(half)[1])


def test_time_inverts_the_noise_level(process):
    t = torch.linspace(0.02, 1, 60, dtype=torch.float64)
    torch.testing.assert_close(process.time(process.snr(t)), t, rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="times|noise levels"):
        process.time(process.snr(torch.ones((), dtype=torch.float64)) / 2)


@pytest.mark.parametrize("make", [*PROCESSES.values(), Interpolant, lambda: Interpolant(0.1), lambda: VP(2.0, 2.0)])
def test_the_closed_form_of_a_time_is_what_bisection_finds(make):
    """Also where a ratio lies beyond the process's, but for a VE, which has no bounds."""
    process = make()
    snr = process.snr(torch.cat([torch.linspace(0, 1, 60), torch.logspace(-6, -2, 20)]).double())
    beyond = [] if isinstance(process, VE) else [torch.tensor([0.0, 1e-30, 1e30, math.inf], dtype=torch.float64)]
    for ratio in (snr, *beyond):
        torch.testing.assert_close(process.invert(ratio), Process.invert(process, ratio), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("betas", [linear_betas(1000), cosine_betas(200)])
def test_discrete_chain_is_the_product_of_its_steps(betas):
    process = DiscreteVP(betas)
    mean, variance = 1.0, 0.0
    for k, beta in enumerate(betas, 1):
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        t = torch.tensor(k / len(betas), dtype=torch.float64)
        assert float(process.alpha(t)) == pytest.approx(mean, rel=1e-11)
        assert float(process.variance(t)) == pytest.approx(variance, rel=1e-9)


def test_ddpm_schedule_ends_where_the_paper_says():
    process = DiscreteVP(linear_betas())
    assert float(process.alpha(torch.ones(1, dtype=torch.float64)) ** 2) == pytest.approx(4.0358e-5, rel=1e-4)
    assert len(linear_betas()) == 1000
    assert linear_betas()[0] == 1e-4
    assert linear_betas()[-1] == pytest.approx(0.02)


def test_two_thousand_steps_of_the_same_betas_are_another_process():
    """The notes' T = 2000 is VP with beta_min 0.2, beta_max 40, not DDPM's chain sampled finer."""
    one = torch.ones(1, dtype=torch.float64)
    notes = DiscreteVP(linear_betas(2000)).log_alpha(one)
    assert float(notes) == pytest.approx(float(VP(0.2, 40).log_alpha(one)), rel=0.01)
    assert float(notes) == pytest.approx(2 * float(DiscreteVP(linear_betas(1000)).log_alpha(one)), rel=0.01)


def test_the_cosine_schedule_follows_its_definition():
    process, steps = DiscreteVP(cosine_betas(1000)), 1000

    def level(k):
        return math.cos((k / steps + 0.008) / 1.008 * math.pi / 2) ** 2

    for k in (1, 10, 500, 900):
        t = torch.tensor(k / steps, dtype=torch.float64)
        assert float(process.alpha(t) ** 2) == pytest.approx(level(k) / level(0), rel=1e-9)
    assert max(cosine_betas(1000)) == 0.999


def test_the_network_receives_whole_indices_in_single_precision():
    process = DiscreteVP(linear_betas(1000))
    index = process.network_time(torch.arange(1, 1001) / 1000)
    assert torch.equal(index, torch.arange(1000.0))
    off_grid = process.network_time(torch.tensor(0.0105, dtype=torch.float64))
    assert float(off_grid) == pytest.approx(9.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [49, 1000])  # 49 (1 / 49) < 1 in either precision
def test_a_grid_point_has_its_value_and_the_slope_after_it(steps, dtype):
    process = DiscreteVP(linear_betas(steps))
    t = torch.arange(steps, dtype=dtype) / steps
    assert steps == 1000 or (steps * t < torch.arange(steps)).any()
    loose = {"rtol": 0, "atol": 2e-6} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(process.log_alpha(t), process.table[:-1].to(dtype), **loose)
    slope = derivative(process.log_alpha, t) / steps
    torch.testing.assert_close(slope, process.table.diff().to(dtype), **loose)


def test_discrete_sde_matches_its_own_increments():
    """Between grid points the coefficients are constant in log alpha: f = T log(alpha_{k+1} / alpha_k)."""
    betas = linear_betas(1000)
    f, g2 = DiscreteVP(betas).sde(torch.tensor(0.5, dtype=torch.float64))
    assert float(f) == pytest.approx(1000 * 0.5 * math.log(1 - betas[500]), rel=1e-9)
    assert float(g2) == pytest.approx(-2 * float(f), rel=1e-9)


def test_processes_hold_nothing_on_the_device(process):
    assert not list(process.parameters())
    assert not list(process.buffers())
    assert not process.state_dict()


def test_perturb_has_the_stated_moments(process):
    g = torch.Generator().manual_seed(0)
    n, t = 40_000, torch.tensor(0.4, dtype=torch.float64)
    noise = torch.randn(n, 1, 2, 1, generator=g, dtype=torch.float64)
    x = process.perturb(torch.full_like(noise, 3.0), t.expand(n), noise)
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    assert abs(float(x.mean()) - 3 * alpha) < 4 * sigma / math.sqrt(2 * n)
    assert abs(float(x.var()) / sigma**2 - 1) < 4 * math.sqrt(2 / (2 * n))


def test_clean_adds_nothing():
    t = torch.rand(5)
    assert torch.equal(Clean().alpha(t), torch.ones(5))
    assert torch.equal(Clean().variance(t), torch.zeros(5))
    f, g2 = Clean().sde(t)
    assert not f.any()
    assert not g2.any()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: VE(5.0, 0.1), r"VE.sigma_min is 5\.0, .* 0\.1"),
        (lambda: VE(start="one"), "VE.start is 'one'"),
        (lambda: VP(0, 1), r"VP.beta_min is 0"),
        (lambda: DiscreteVP([0.1, 1.0]), "DiscreteVP.betas is"),
        (lambda: DiscreteVP([]), "DiscreteVP.betas is"),
    ],
)
def test_wrong_constants_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()

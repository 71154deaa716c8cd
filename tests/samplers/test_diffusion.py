"""Ancestral sampling and DDIM on data whose every score is known, step by step and without Monte Carlo."""

import math

import pytest
import torch

from lightning_gen.models import Denoiser, Scored, ScoreNetwork
from lightning_gen.models.denoiser import PARAMETRIZATIONS
from lightning_gen.process import VE, VP, Clean, DiscreteVP, linear_betas
from lightning_gen.samplers import DDIM, Ancestral, Stepwise
from tests.gaussian import PROCESSES, Gaussian, example
from tests.networks import Exact

torch64 = {"dtype": torch.float64}


def moments(sampler, model):
    """Mean and covariance of what the sampler draws, by pushing those of the prior through its affine steps."""
    d = len(model.mean)
    mean, cov = torch.zeros(d, **torch64), model.process.prior_sigma**2 * torch.eye(d, **torch64)
    points = torch.cat([torch.zeros(1, d, **torch64), torch.eye(d, **torch64)])
    for transition in sampler.plan(model, (1, 2)):
        keep, pull, noise = transition.coefficients
        out = keep * points + pull * sampler.clean(model, points, transition)
        matrix = (out[1:] - out[0]).T
        mean = matrix @ mean + out[0]
        cov = matrix @ cov @ matrix.T + noise**2 * torch.eye(d, **torch64)
    return mean, cov


def kl(mean, cov, model):
    """KL(N(mean, cov) || data)."""
    sampled = torch.distributions.MultivariateNormal(mean, cov)
    return float(
        torch.distributions.kl_divergence(sampled, torch.distributions.MultivariateNormal(model.mean, model.cov))
    )


@pytest.mark.parametrize(
    ("variance", "data", "known"),
    [
        ("small", 4, 1.0e-5),
        ("small", 1, 2.0e-5),
        ("small", 0.25, 6.1e-5),
        ("small", 0.04, 3.4e-4),
        ("large", 4, 1.4e-6),
        ("large", 1, 2.5e-9),
        ("large", 0.25, 2.3e-6),
        ("large", 0.04, 2.2e-5),
    ],
)
def test_ddpm_with_a_thousand_steps_leaves_the_known_divergence(variance, data, known):
    model = Gaussian(DiscreteVP(linear_betas(1000)), torch.zeros(1), torch.full((1, 1), float(data)))
    assert kl(*moments(Ancestral(variance), model), model) == pytest.approx(known, rel=0.1)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ancestral_steps_are_the_papers(variance):
    """Ho et al. eq. 7 and algorithm 2, written with betas: the recursion of mean and variance to 1e-10."""
    betas = torch.tensor(linear_betas(1000), **torch64)
    bar, data_mean, data_var = torch.cumprod(1 - betas, 0), 0.7, 0.3
    mean, var = torch.zeros((), **torch64), torch.ones((), **torch64)
    for k in reversed(range(1000)):
        beta, a_bar = betas[k], bar[k]
        before = bar[k - 1] if k else torch.ones((), **torch64)
        total = a_bar * data_var + 1 - a_bar
        # E[noise | x] = slope x + shift for Gaussian data
        slope = (1 - a_bar).sqrt() / total
        shift = -slope * a_bar.sqrt() * data_mean
        factor = beta / (1 - a_bar).sqrt()
        matrix, offset = (1 - factor * slope) / (1 - beta).sqrt(), -factor * shift / (1 - beta).sqrt()
        noise = 0 if k == 0 else beta if variance == "large" else beta * (1 - before) / (1 - a_bar)
        mean, var = matrix * mean + offset, matrix**2 * var + noise
    model = Gaussian(DiscreteVP(betas.tolist()), torch.full((1,), data_mean), torch.full((1, 1), data_var))
    got_mean, got_cov = moments(Ancestral(variance), Gaussian(model.process, torch.tensor([0.7], **torch64),
                                                              torch.tensor([[0.3]], **torch64)))  # fmt: skip
    torch.testing.assert_close(got_mean[0], mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(got_cov[0, 0], var, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["vp", "subvp", "discrete linear", "discrete cosine"])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: Ancestral("small", n),
        lambda n: Ancestral("large", n),
        lambda n: DDIM(n, 0.0),
        lambda n: DDIM(n, 0.5),
        lambda n: DDIM(n, 1.0),
    ],
)
def test_more_steps_come_to_the_data(name, make):
    """The divergence from correlated Gaussian data falls with the steps, to little. A wrong sigma stays away."""
    model = Gaussian(PROCESSES[name](), *example())
    few, many = (kl(*moments(make(n), model), model) for n in (25, 100))
    assert many < few / 2
    assert many < 0.05


@pytest.mark.parametrize("name", PROCESSES)
def test_the_sampler_draws_the_moments_that_its_plan_says(name):
    """step itself, with its noise: 20,000 draws against the propagated moments, each |z| <= 4."""
    model, sampler, n = Gaussian(PROCESSES[name](), *example()), Ancestral("small", 8), 20_000
    g = torch.Generator().manual_seed(0)
    x = sampler(model, model.process.prior_sigma * torch.randn(n, 2, generator=g, **torch64), g)
    mean, cov = moments(sampler, model)
    assert ((x.mean(0) - mean).abs() < 4 * (cov.diagonal() / n).sqrt()).all()
    assert ((x.var(0) / cov.diagonal() - 1).abs() < 4 * math.sqrt(2 / n)).all()


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("steps", [None, 10, [1, 5, 40, 41, 99]])
@pytest.mark.parametrize("clip", [None, (-1.0, 1.0)])
def test_ddim_with_eta_one_is_ancestral(name, steps, clip):
    process = PROCESSES[name]()
    if process.steps is None and steps != 10:
        steps = 20
    model, x = Gaussian(process, *example()), torch.randn(7, 2, generator=torch.Generator().manual_seed(2), **torch64)
    first = Ancestral("small", steps, clip)(model, x, torch.Generator().manual_seed(3))
    second = DDIM(steps, 1.0, clip)(model, x, torch.Generator().manual_seed(3))
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", PROCESSES)
def test_ddim_without_eta_uses_no_randomness(name):
    model, x = (
        Gaussian(PROCESSES[name](), *example()),
        torch.randn(4, 2, generator=torch.Generator().manual_seed(0), **torch64),
    )
    g = torch.Generator().manual_seed(9)
    before = g.get_state()
    first = DDIM(20)(model, x, g)
    assert torch.equal(g.get_state(), before)
    assert torch.equal(first, DDIM(20)(model, x))


def test_ddim_is_of_first_order():
    """Halving the step halves the error of the deterministic map, here the standard deviation it makes of N(0, 1)."""
    model = Gaussian(VP(), torch.zeros(1), torch.full((1, 1), 0.25))
    exact = math.sqrt(
        0.25 / float(VP().alpha(torch.ones((), **torch64)) ** 2 * 0.25 + VP().variance(torch.ones((), **torch64)))
    )
    errors = [abs(float(moments(DDIM(n), model)[1]) ** 0.5 - exact) for n in (400, 800, 1600)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.1)
    assert math.log2(errors[1] / errors[2]) == pytest.approx(1, abs=0.1)


class AsScore(torch.nn.Module):
    """The truth's score as a network."""

    def __init__(self, truth):
        super().__init__()
        self.truth = truth

    def forward(self, x, index):
        return self.truth.score(x, self.t)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("sampler", [Ancestral("small", 12), Ancestral("large", 12), DDIM(12), DDIM(12, 0.7)])
def test_noise_clean_velocity_and_score_networks_walk_the_same_path(name, sampler):
    truth = Gaussian(PROCESSES[name](), *example())
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(4), **torch64)
    expected = list(sampler.trajectory(truth, x, torch.Generator().manual_seed(5)))
    for reading in (*PARAMETRIZATIONS, "score"):
        net = AsScore(truth) if reading == "score" else Exact(truth, reading)
        model = ScoreNetwork(net, truth.process) if reading == "score" else Denoiser(net, truth.process, reading)
        g, x_t, carry = torch.Generator().manual_seed(5), x, None
        for transition, goal in zip(sampler.plan(model, (1, 2)), expected[1:], strict=True):
            net.t = torch.full((3,), transition.t, **torch64)
            x_t, carry = sampler.step(model, x_t, transition, carry, g)
            scale = goal.abs().max().clamp(min=1)
            torch.testing.assert_close(x_t / scale, goal / scale, rtol=0, atol=1e-10)


def test_grids_enter_discrete_processes_at_their_own_times():
    process = DiscreteVP(linear_betas(1000))
    trailing = [t.t for t in DDIM(10).transitions(process)]
    assert trailing == [k / 1000 for k in range(1000, 0, -100)]
    leading = [t.t for t in DDIM(10, spacing="leading").transitions(process)]
    assert leading == [k / 1000 for k in range(901, 0, -100)]
    chosen = [(t.t, t.s) for t in DDIM([2, 500, 1000]).transitions(process)]
    assert chosen == [(1.0, 0.5), (0.5, 0.002), (0.002, 0.0)]
    assert len(Ancestral().transitions(process)) == 1000
    assert [t.t for t in DDIM(4).transitions(VP())] == [1, 0.75, 0.5, 0.25]


def test_a_plan_is_host_numbers(request):
    for sampler in (Ancestral(steps=5), DDIM(5)):
        for transition in sampler.transitions(VP()):
            assert all(type(value) is float for value in (transition.t, transition.s, *transition.coefficients))


def test_clipping_holds_the_clean_data_not_the_state():
    model = Gaussian(DiscreteVP(linear_betas(100)), torch.tensor([5.0]), torch.tensor([[0.01]]))
    x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0), **torch64)
    assert Ancestral(clip=(-1, 1))(model, x, torch.Generator().manual_seed(1)).abs().max() <= 1
    assert Ancestral()(model, x, torch.Generator().manual_seed(1)).mean() > 4.5


class Energy(Scored):
    """Some other kind of model."""


class Gibbs(Stepwise):
    needs = (Energy,)

    def plan(self, model, shape):
        return []

    def step(self, model, x, transition, carry, generator):
        return x, None


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda m: Gibbs()(m, torch.zeros(1, 2)), TypeError, "Gibbs.*Gaussian"),
        (lambda m: Ancestral()(m, torch.zeros(1, 2)), ValueError, "VP.*steps"),
        (lambda m: DDIM([1, 2])(m, torch.zeros(1, 2)), ValueError, "steps.*discrete"),
        (lambda m: DDIM(4, spacing="leading")(m, torch.zeros(1, 2)), ValueError, "leading.*discrete"),
        (lambda m: DDIM(eta=1.5), ValueError, "eta.*1.5"),
        (lambda m: Ancestral("medium"), ValueError, "variance.*medium"),
        (lambda m: Ancestral(clip=[1, -1]), ValueError, "sampler.clip.*1, -1"),
        (lambda m: DDIM(11).transitions(DiscreteVP(linear_betas(10))), ValueError, "steps.*11.*10"),
        (lambda m: DDIM([3, 11]).transitions(DiscreteVP(linear_betas(10))), ValueError, "steps.*11.*10"),
        (lambda m: DDIM([3, 3]).transitions(DiscreteVP(linear_betas(10))), ValueError, "rising"),
        (
            lambda m: DDIM(5)(ScoreNetwork(torch.nn.Identity(), Clean()), torch.zeros(1, 2)),
            TypeError,
            "process.*Clean",
        ),
    ],
)
def test_impossible_combinations_get_one_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call(Gaussian(VP(), *example()))


def test_ve_starts_from_its_largest_noise():
    model = Gaussian(VE(0.01, 30.0), *example())
    x = model.prior((20_000, 2), torch.Generator().manual_seed(0))
    assert float(x.std()) == pytest.approx(30, rel=0.02)

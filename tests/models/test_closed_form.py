"""Closed forms: each density has mass one, its own draws and scipy's values, and the fit that its equations give."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from lightning_gen.data import Digits, Moons
from lightning_gen.losses import NegativeLogLikelihood
from lightning_gen.models import (
    BINARY,
    COUNTS,
    NON_NEGATIVE,
    POSITIVE,
    REAL,
    SIMPLEX,
    UNIT,
    Beta,
    Dirichlet,
    Exponential,
    Gamma,
    Gaussian,
    Poisson,
    Support,
)
from lightning_gen.samplers import Exact
from tests.models.fits import minimise

F64 = {"dtype": torch.float64}
LAWS = {  # the model, and the lists of its constructor
    "gaussian": (Gaussian, [0.5, -1.0], [0.7, 2.0]),
    "exponential": (Exponential, [0.6, 3.0]),
    "gamma": (Gamma, [0.7, 4.0], [2.0, 0.5]),
    "beta": (Beta, [0.7, 3.0], [2.5, 1.5]),
    "dirichlet": (Dirichlet, [1.5, 2.0, 3.5]),
    "poisson": (Poisson, [0.8, 12.0]),
}
N = 20_000


def law(name):
    """In float64, with parameters that are those of the lists to its last digits."""
    model, *lists = LAWS[name]
    made = model(*lists).double()
    for parameter, numbers in zip(made.parameters(), lists, strict=True):
        exact = torch.tensor(numbers, **F64)
        exact = exact if parameter is getattr(made, "mean", None) else exact.log()
        torch.testing.assert_close(parameter.detach(), exact, rtol=1e-6, atol=1e-6)  # was made in float32
        parameter.data.copy_(exact)
    return made


def draws(name, n=N, seed=0):
    model = law(name)
    return model.draw((n, 3 if name == "dirichlet" else 2), torch.Generator().manual_seed(seed))


def coordinates(name):
    """scipy's law of each coordinate, by the same lists: of a Dirichlet density, the marginal ones."""
    (_, *lists), stats = LAWS[name], scipy.stats
    first, second = (np.array(numbers) for numbers in (lists[0], lists[-1]))
    match name:
        case "gaussian":
            return stats.norm(first, second)
        case "exponential":
            return stats.expon(scale=1 / first)
        case "gamma":
            return stats.gamma(first, scale=1 / second)
        case "beta":
            return stats.beta(first, second)
        case "dirichlet":
            return stats.beta(first, first.sum() - first)
        case "poisson":
            return stats.poisson(first)


def covariance(name):
    if name == "dirichlet":
        return scipy.stats.dirichlet(LAWS[name][1]).cov()
    return np.diag(coordinates(name).var())


def value(model, *x):
    return float(model.log_prob(torch.tensor([x], **F64)).detach().exp())


ONE = {
    "gaussian": (Gaussian([0.5], [0.7]), -math.inf, math.inf),
    "exponential": (Exponential([0.6]), 0, math.inf),
    "gamma": (Gamma([1.7], [2.0]), 0, math.inf),
    "beta": (Beta([1.7], [2.5]), 0, 1),
}


@pytest.mark.parametrize("name", ONE)
def test_a_density_integrates_to_one(name):
    model, low, high = ONE[name]
    mass, _ = scipy.integrate.quad(lambda x: value(model.double(), x), low, high, epsabs=1e-9)
    assert mass == pytest.approx(1, abs=1e-7)


def test_probabilities_of_counts_sum_to_one():
    x = torch.arange(100, **F64)[:, None]
    assert float(Poisson([12.0]).double().log_prob(x).exp().sum().detach()) == pytest.approx(1, abs=1e-10)


def test_a_dirichlet_density_integrates_to_one_over_all_coordinates_but_one():
    n, model = 800, law("dirichlet")
    x, y = torch.cartesian_prod(*[(torch.arange(n, **F64) + 0.5) / n] * 2).T
    inside = x + y < 1
    rows = torch.stack([x, y, 1 - x - y], 1)[inside]
    assert float(model.log_prob(rows).exp().sum().detach()) / n**2 == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", LAWS)
def test_log_p_is_scipys(name):
    x = draws(name, 200)
    if name == "dirichlet":
        expected = scipy.stats.dirichlet(LAWS[name][1]).logpdf(x.numpy().T)
    else:
        laws = coordinates(name)
        expected = (laws.logpmf if name == "poisson" else laws.logpdf)(x.numpy()).sum(1)
    model = law(name)
    np.testing.assert_allclose(model.log_prob(x).detach().numpy(), expected, rtol=0, atol=1e-10)
    assert torch.equal(model.energy(x), -model.log_prob(x)) and float(model.log_z()) == 0 and model.tractable()


@pytest.mark.parametrize("name", LAWS)
def test_draws_have_the_mean_and_the_covariance(name):
    x, exact = draws(name), torch.from_numpy(np.asarray(coordinates(name).mean()))
    assert ((x.mean(0) - exact).abs() <= 4 * x.std(0) / N**0.5).all()
    centred = x - exact
    products = centred[:, :, None] * centred[:, None]
    assert ((products.mean(0) - torch.from_numpy(covariance(name))).abs() <= 4 * products.std(0) / N**0.5).all()


@pytest.mark.parametrize("name", LAWS)
def test_draws_have_the_distribution_of_each_coordinate(name):
    """Kolmogorov and Smirnov's test; of counts chi squared's, on those that are expected 5 times or more."""
    x, laws = draws(name).numpy(), coordinates(name)
    if name != "poisson":
        for i, column in enumerate(x.T):
            assert scipy.stats.kstest(column, lambda at, i=i: laws.cdf(at[:, None])[:, i]).pvalue > 1e-3
        return
    for column, rate in zip(x.T, laws.mean(), strict=True):
        counts, one = np.arange(60), scipy.stats.poisson(rate)
        expected = N * one.pmf(counts)
        often = expected >= 5
        seen = (column[:, None] == counts).sum(0)[often]
        observed, known = np.append(seen, N - seen.sum()), np.append(expected[often], N - expected[often].sum())
        assert scipy.stats.chisquare(observed, known).pvalue > 1e-3


@pytest.mark.parametrize("name", LAWS)
def test_draws_depend_on_the_generator_alone_and_lie_in_the_support(name):
    model, x = law(name), draws(name, 500)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert torch.equal(draws(name, 500), x) and torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(draws(name, 500, seed=1), x)
    assert model.support.contains(x).all()
    shaped = Exact()(model, torch.zeros(500, 1, x.shape[1], **F64), torch.Generator().manual_seed(0))
    assert torch.equal(shaped.flatten(1), x)
    torch.testing.assert_close(model.log_prob(shaped), model.log_prob(x), rtol=0, atol=0)


OUTSIDE = {
    "exponential": [[-0.1, 1.0]],
    "gamma": [[1.0, -2.0], [0.0, 1.0]],
    "beta": [[0.5, 1.1], [-0.1, 0.5], [0.0, 0.5], [0.5, 1.0]],
    "dirichlet": [[0.5, 0.5, 0.5], [-0.2, 0.6, 0.6], [0.0, 0.5, 0.5]],
    "poisson": [[1.5, 2.0], [-1.0, 2.0]],
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_outside_of_the_support_p_is_zero_and_gradients_are_finite(name):
    """Of a parameter they are 0 there, and inside what they are without the others."""
    model, outside, inside = law(name), torch.tensor(OUTSIDE[name], **F64), draws(name, 3)
    assert (model.log_prob(outside) == -math.inf).all()

    def gradients(x):
        return torch.autograd.grad(model.log_prob(x).exp().sum(), list(model.parameters()))

    for one, both in zip(gradients(inside), gradients(torch.cat([inside, outside])), strict=True):
        torch.testing.assert_close(one, both)


SPARSE = {
    "gamma": Gamma([0.01, 0.01], [1.0, 1.0]),
    "beta": Beta([0.01, 2.0], [0.01, 0.01]),
    "dirichlet": Dirichlet([0.01, 0.02, 0.03]),
}


@pytest.mark.parametrize("name", SPARSE)
def test_draws_of_small_concentrations_have_finite_log_p_and_the_right_shares(name):
    """In float32 nearly all of their mass rounds to 0 or 1, of shares of 0.01, 0.02 and 0.03 most to a corner."""
    model, n = SPARSE[name], 4000
    x = model.draw((n, model.coordinates), torch.Generator().manual_seed(0))
    assert model.support.contains(x).all() and model.log_prob(x).isfinite().all()
    high = (x > 0.5).double()
    if name == "gamma":
        known = scipy.stats.gamma([0.01, 0.01]).sf(0.5)
    elif name == "beta":
        known = scipy.stats.beta([0.01, 2.0], [0.01, 0.01]).sf(0.5)
    else:
        known = scipy.stats.beta([0.01, 0.02, 0.03], [0.05, 0.04, 0.03]).sf(0.5)
    known = torch.from_numpy(known)
    assert ((high.mean(0) - known).abs() <= 4 * (known * (1 - known) / n).sqrt() + 1e-12).all()


def test_data_at_the_ends_are_refused_where_log_p_is_infinite_there():
    """The likelihood of a Beta density has no maximum for data that hold a 0: E log x is not finite."""
    for support, inside in ((UNIT, False), (POSITIVE, False), (NON_NEGATIVE, True)):
        assert bool(support.contains(torch.tensor([[0.5, 0.0]]))) is inside
    assert str(UNIT) == "numbers from 0 to 1 without the ends" and str(NON_NEGATIVE) == "numbers from 0 to inf"


def test_binary_values_are_0_and_1_whatever_is_known_of_their_number():
    for support in (Support("binary"), BINARY):
        assert support.contains(torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.5, 0.0]])).tolist() == [True, False, False]


@pytest.mark.parametrize("name", LAWS)
def test_samples_of_another_number_of_values_are_refused(name):
    """They would be broadcast: one rate for every coordinate."""
    model, d = law(name), len(LAWS[name][1])
    for n in (1, d + 1):
        with pytest.raises(ValueError, match=rf"shape \({n},\), expected {d} values.*{type(model).__name__}"):
            model.log_prob(torch.full((4, n), 1.0, **F64))
        with pytest.raises(ValueError, match=f"expected {d} values"):
            model.draw((4, n), torch.Generator())
    with pytest.raises(ValueError, match="expected 3 values.*Gaussian"):
        Gaussian([0.0] * 3, [1.0] * 3).check_data(moons())
    Gaussian([0.0] * 2, [1.0] * 2).check_data(moons())


def moons():
    data = Moons(n=200, val_size=10, test_size=10)
    data.setup()
    return data


def test_the_score_is_the_closed_form():
    known = {
        "gaussian": lambda x, m: (m.mean - x) / m.log_deviation.exp() ** 2,
        "exponential": lambda x, m: -m.log_rate.exp().expand_as(x),
        "gamma": lambda x, m: (m.log_concentration.exp() - 1) / x - m.log_rate.exp(),
        "beta": lambda x, m: (m.log_a.exp() - 1) / x - (m.log_b.exp() - 1) / (1 - x),
        "dirichlet": lambda x, m: (m.log_concentration.exp() - 1) / x,
    }
    for name, closed in known.items():
        model, x = law(name), draws(name, 50).requires_grad_()
        (slope,) = torch.autograd.grad(model.log_prob(x).sum(), x)
        torch.testing.assert_close(slope, closed(x, model).detach(), rtol=1e-8, atol=1e-8, msg=name)
    model, x = law("gaussian"), draws("gaussian", 50)
    torch.testing.assert_close(model.score(x, torch.zeros((), **F64)), known["gaussian"](x, model), rtol=0, atol=1e-10)


def minimised(model, loss, x):
    """The model where the mean loss of x is least, from other parameters than its own."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5).add_(0.2)
    minimise(loss, model, x)
    return model


def statistics(name, model, x):
    """E_p T(x) in closed form, and the mean of T over x."""
    psi = torch.digamma
    match name:
        case "gaussian":
            s = model.log_deviation.exp()
            return (model.mean, x.mean(0)), (s, x.std(0, correction=0))
        case "exponential":
            return ((1 / model.log_rate.exp(), x.mean(0)),)
        case "gamma":
            a, rate = model.log_concentration.exp(), model.log_rate.exp()
            return (psi(a) - rate.log(), x.log().mean(0)), (a / rate, x.mean(0))
        case "beta":
            a, b = model.log_a.exp(), model.log_b.exp()
            return (psi(a) - psi(a + b), x.log().mean(0)), (psi(b) - psi(a + b), (-x).log1p().mean(0))
        case "dirichlet":
            a = model.log_concentration.exp()
            return ((psi(a) - psi(a.sum()), x.log().mean(0)),)
        case "poisson":
            return ((model.log_rate.exp(), x.mean(0)),)


@pytest.mark.parametrize("name", LAWS)
def test_the_greatest_likelihood_solves_its_equations_and_finds_the_parameters(name):
    """E_p T = mean of T, which for Gaussian, exponential and Poisson laws is the estimator itself."""
    n, truth = 4000, torch.nn.utils.parameters_to_vector(law(name).parameters())
    x = draws(name, n)
    model = minimised(law(name), NegativeLogLikelihood(), x)
    for expected, mean in statistics(name, model, x):
        torch.testing.assert_close(expected.detach(), mean, rtol=1e-6, atol=1e-6)
    theta = torch.nn.utils.parameters_to_vector(model.parameters()).detach()

    def nats(theta):
        return -values(model, theta, x).mean()

    errors = torch.linalg.inv(n * torch.autograd.functional.hessian(nats, theta)).diagonal().sqrt()
    assert ((theta - truth).abs() <= 4 * errors).all()


def values(model, theta, x):
    """log p(x), nats, (B,), by parameters theta, one vector."""
    names, sizes = zip(*[(name, p.numel()) for name, p in model.named_parameters()], strict=True)
    model.forward = model.log_prob
    return torch.func.functional_call(model, dict(zip(names, theta.split(sizes), strict=True)), (x,))


@pytest.mark.parametrize("support", [NON_NEGATIVE, POSITIVE, UNIT, SIMPLEX, COUNTS], ids=str)
def test_data_outside_of_the_support_are_refused(support):
    data = moons()
    with pytest.raises(ValueError, match=f"moons has points of values from -.* expected each in {support}"):
        support.check(data)
    Support("interval", low=-5.0, high=5.0).check(data)
    REAL.check(data)
    with pytest.raises(ValueError, match=f"data.value_range is .*digits, images.* expected points, each in {support}"):
        support.check(Digits())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Gaussian([0.0], [1.0, 2.0]), "mean has 1 .*deviation 2"),
        (lambda: Gamma([1.0, 2.0], [1.0]), "concentration has 2 .*rate 1"),
        (lambda: Beta([1.0], [1.0, 2.0]), "a has 1 .*b 2"),
        (lambda: Dirichlet([1.0]), "concentration has 1 .*at least 2"),
        (lambda: Exponential([0.0]), "rate"),
        (lambda: Poisson([-1.0]), "rate"),
    ],
)
def test_wrong_parameters_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()

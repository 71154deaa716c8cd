"""Noise-contrastive estimation against its own integral, its least value and the error of what it estimates."""

import math

import pytest
import torch

from lightning_gen.losses import NCE
from lightning_gen.models import EnergyNetwork, SmoothEnergy
from lightning_gen.process import Clean

F64 = {"dtype": torch.float64}
MEAN, STD = 0.4, 0.7  # of the data
TRUTH = (MEAN, 1 / STD**2, math.log(STD * math.sqrt(2 * math.pi)))
NOISE = {"std": 1.3, "mean": -0.2}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(mean, std):
    return torch.distributions.Normal(torch.tensor(mean, **F64), torch.tensor(std, **F64))


def data(n, seed=0):
    return MEAN + STD * torch.randn(n, 1, generator=generator(seed), **F64)


class Bell(SmoothEnergy):
    """E = 1/2 precision (x - mean)^2 + constant, theta = (mean, precision, constant)."""

    def __init__(self, theta=TRUTH):
        super().__init__(Clean())
        self.theta = torch.nn.Parameter(torch.tensor(theta, **F64))

    def energy(self, x):
        mean, precision, constant = self.theta
        return (0.5 * precision * (x - mean).square()).flatten(1).sum(1) + constant


def integral(theta, ratio):
    """E[-log s(G(x))] + ratio E[-log(1 - s(G(y)))], () with its graph, s(G) the posterior of data, by quadrature."""
    x = torch.linspace(-14, 14, 20001, **F64)
    weight = float(x[1] - x[0])
    log_data = normal(MEAN, STD).log_prob(x)
    log_noise = normal(NOISE["mean"], NOISE["std"]).log_prob(x)
    mean, precision, constant = theta
    log_model = -0.5 * precision * (x - mean).square() - constant
    total = torch.logaddexp(log_model, log_noise + math.log(ratio))
    is_data, is_noise = log_model - total, log_noise + math.log(ratio) - total
    return -weight * (log_data.exp() * is_data + ratio * log_noise.exp() * is_noise).sum()


@pytest.mark.parametrize("ratio", [1, 4])
@pytest.mark.parametrize("theta", [TRUTH, (0.0, 1.0, 0.0), (1.0, 3.0, 2.0)])
def test_value_and_gradient_are_those_of_the_integral(theta, ratio):
    """Means over 20,000 samples and their noise, each |z| <= 4; at the truth the gradient is 0."""
    goal = torch.tensor(theta, **F64).requires_grad_()
    truth = integral(goal, ratio)
    (slope,) = torch.autograd.grad(truth, goal)
    if theta == TRUTH:
        assert float(slope.abs().max()) < 1e-9
    model, n = Bell(theta), 20_000
    value = NCE(**NOISE, ratio=ratio)(model, data(n), generator(1))
    assert value.shape == (n,)
    assert abs(float((value.mean() - truth) / (value.std() / n**0.5))) <= 4
    parts = torch.stack(
        [torch.autograd.grad(part.mean(), model.theta, retain_graph=True)[0] for part in value.split(200)]
    )
    z = (parts.mean(0) - slope) / (parts.std(0) / len(parts) ** 0.5)
    assert z.abs().max() <= 4


@pytest.mark.parametrize("ratio", [1, 4])
def test_nothing_is_less_than_the_truth_its_constant_included(ratio):
    """The integral's Hessian is positive there, and a step of any parameter costs something."""
    least = torch.tensor(TRUTH, **F64)
    curvature = torch.autograd.functional.hessian(lambda theta: integral(theta, ratio), least)
    assert float(torch.linalg.eigvalsh(curvature)[0]) > 1e-3
    for i in range(3):
        for step in (-0.3, 0.3):
            other = least.clone()
            other[i] += step
            assert integral(other, ratio) > integral(least, ratio) + 1e-4


@pytest.mark.parametrize("ratio", [1, 4])
def test_equal_densities_cost_what_a_guess_costs(ratio):
    """Data like the noise: (1 + ratio) log(1 + ratio) - ratio log ratio, 2 log 2 at ratio 1, at every point."""
    std, mean = NOISE["std"], NOISE["mean"]
    model = Bell((mean, 1 / std**2, math.log(std * math.sqrt(2 * math.pi))))
    value = NCE(**NOISE, ratio=ratio)(model, data(50), generator())
    guess = (1 + ratio) * math.log(1 + ratio) - ratio * math.log(ratio)
    torch.testing.assert_close(value, torch.full_like(value, guess), rtol=1e-12, atol=0)
    if ratio == 1:
        assert guess == pytest.approx(2 * math.log(2))


def fitted(model, name, loss, x):
    """The named parameter where the loss of x with one noise is least, and its standard errors (sandwich form)."""
    parameter = model.get_parameter(name)
    optimizer = torch.optim.LBFGS([parameter], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss(model, x, generator(4)).mean()
        value.backward()
        return value

    def values(theta):
        model.forward = lambda: loss(model, x, generator(4))
        return torch.func.functional_call(model, {name: theta.view_as(parameter)}, ())

    optimizer.step(closure)
    theta = parameter.detach().flatten()
    slopes = torch.autograd.functional.jacobian(values, theta)
    assert float(slopes.mean(0).abs().max()) < 1e-5
    inverse = torch.linalg.inv(torch.autograd.functional.hessian(lambda theta: values(theta).mean(), theta))
    spread = (slopes.T @ slopes) / len(x)
    return theta, (inverse @ spread @ inverse / len(x)).diagonal().sqrt()


@pytest.mark.parametrize("ratio", [1, 4])
def test_a_fit_finds_the_gaussian_and_its_constant_within_their_errors(ratio):
    """4,000 samples: mean, precision and log Z, each within 4 standard errors."""
    theta, errors = fitted(Bell((0.0, 1.0, 0.0)), "theta", NCE(**NOISE, ratio=ratio), data(4_000, 3))
    assert ((theta - torch.tensor(TRUTH, **F64)) / errors).abs().max() <= 4
    assert errors.max() < 0.15


class Nothing(torch.nn.Module):
    """f = 0, so that the confining term alone is left: N(0, confine^2 I), Z unknown to it."""

    growth = "linear"

    def forward(self, x, t):
        return torch.zeros(len(x), dtype=x.dtype)


def test_an_energy_networks_constant_becomes_its_log_partition():
    """E = ||x||^2 / 2 s^2 + constant in three dimensions; without one there is nothing to learn."""
    s, shape = 0.8, (1, 1, 3)
    model = EnergyNetwork(Nothing(), readout="scalar", confine=s, constant=True).double()
    x = s * torch.randn(4_000, *shape, generator=generator(), **F64)
    before = model.energy(x).detach()
    found, error = (float(value) for value in fitted(model, "constant", NCE(1.0), x))
    assert abs(found - 3 * math.log(s * math.sqrt(2 * math.pi))) <= 4 * error and error < 0.05
    torch.testing.assert_close(model.energy(x).detach(), before + found)
    assert not list(EnergyNetwork(Nothing(), readout="scalar", confine=s).parameters())


def test_each_sample_is_contrasted_with_noise_of_its_own():
    """Written out, `ratio` of them a sample, images too; the noise is the generator's alone."""
    ratio, shape = 3, (1, 2, 2)
    nce, x = NCE(0.9, 0.3, ratio), torch.randn(5, *shape, generator=generator(), **F64)
    model = Bell((0.1, 2.0, 0.5))
    noise = 0.3 + 0.9 * torch.randn(5 * ratio, *shape, generator=generator(7), **F64)

    def odds(u):  # of data against noise
        return (-model.energy(u) - normal(0.3, 0.9).log_prob(u).flatten(1).sum(1)).exp() / ratio

    goal = -(odds(x) / (1 + odds(x))).log()
    for part in noise.split(5):
        goal = goal + (1 + odds(part)).log()
    torch.testing.assert_close(nce(model, x, generator(7)), goal, rtol=1e-10, atol=1e-10)
    moved = x.clone()
    moved[2] += 1
    changed = nce(model, moved, generator(7)) != nce(model, x, generator(7))
    assert changed.tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("wrong", [{"std": 0.0}, {"std": -1.0}, {"std": math.nan}, {"std": 1.0, "ratio": 0}])
def test_noise_without_a_density_is_refused(wrong):
    *_, (name, value) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}.*{value}"):
        NCE(**wrong)

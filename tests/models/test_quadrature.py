"""Densities by quadrature: Z of f^2, exp f and |f| against closed forms, its stated error, and AIS beside it."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from lightning_gen.likelihood import annealing_path, log_weights, partition, temperatures, tuned_steps
from lightning_gen.losses import NegativeLogLikelihood
from lightning_gen.models import EnergyNetwork, Gaussian, Quadrature, quadrature
from lightning_gen.samplers import MALA, Exact
from tests.models.fits import minimise

F64 = {"dtype": torch.float64}


class Function(torch.nn.Module):
    """f(x), (B,), of x (B, d), and no weights."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x, t):
        return self.f(x)


def made(f, *args, **options):
    return Quadrature(Function(f), *args, **options).double()


CLOSED = {  # f, g, low, high, d, Z
    "bell": (lambda x: -0.5 * x.square().sum(1), "exp", -9.0, 9.0, 1, math.sqrt(2 * math.pi)),
    "bell of the plane": (lambda x: -0.5 * x.square().sum(1), "exp", -9.0, 9.0, 2, 2 * math.pi),
    "square of a line": (lambda x: x[:, 0], "square", -1.0, 2.0, 1, 3.0),
    "size of a line": (lambda x: x[:, 0], "absolute", -1.0, 2.0, 1, 2.5),
    "size of a product": (lambda x: x.prod(1), "absolute", -1.0, 2.0, 2, 2.5**2),
    "exponential": (lambda x: -2 * x[:, 0], "exp", 0.0, 3.0, 1, (1 - math.exp(-6)) / 2),
    "hermite": (lambda x: x[:, 0] * (-0.25 * x[:, 0] ** 2).exp(), "square", -9.0, 9.0, 1, math.sqrt(2 * math.pi)),
}


@pytest.mark.parametrize("name", CLOSED)
def test_z_is_the_closed_form(name):
    """Within the stated error, at most 1e-3 nats; a bell, 0 with all its slopes at the box's ends, to rounding."""
    f, g, low, high, d, z = CLOSED[name]
    model = made(f, g, low, high, d)
    true = abs(float(model.log_constant()) - math.log(z))
    assert true <= model.error() + 1e-12 and model.error() <= 1e-3
    if "bell" in name:
        assert true <= 1e-12
    if name in ("square of a line", "exponential"):  # smooth, and not 0 at the ends: an error of order 2
        assert model.error() == pytest.approx(3 * true, rel=0.01)
        fine = made(f, g, low, high, d, cells=600)
        assert model.error() == pytest.approx(4 * fine.error(), rel=0.01)


def test_the_density_is_that_of_its_g():
    f = CLOSED["bell of the plane"][0]
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), **F64)
    expected = Gaussian([0.0, 0.0], [1.0, 1.0]).double().log_prob(x).detach()
    torch.testing.assert_close(made(f, "exp", -9.0, 9.0, 2).log_prob(x), expected, rtol=0, atol=1e-10)
    line = made(CLOSED["square of a line"][0], "square", -1.0, 2.0)
    x = torch.tensor([[0.0], [-0.5], [2.5], [-1.1]], **F64)
    expected = torch.tensor([0.0, 0.25 / 3, 0.0, 0.0], **F64)
    torch.testing.assert_close(line.log_prob(x).exp(), expected, rtol=1e-4, atol=1e-12)


def test_draws_have_the_density():
    """x^2 / 3 on [-1, 2], with the distribution function (x^3 + 1) / 9, and draws that the generator decides."""
    model, n = made(CLOSED["square of a line"][0], "square", -1.0, 2.0, cells=40), 20_000
    g = torch.Generator().manual_seed(0)
    x = Exact()(model, torch.zeros(n, 1, **F64), g)[:, 0].numpy()
    assert scipy.stats.kstest(x, lambda at: (at**3 + 1) / 9).pvalue > 1e-3
    product = made(CLOSED["size of a product"][0], "absolute", -1.0, 2.0, 2, cells=40)
    x = product.draw((n, 2), torch.Generator().manual_seed(1))
    again = product.draw((n, 2), torch.Generator().manual_seed(1))
    mean = x.mean(0) - (8 / 3 - 1 / 3) / 2.5
    assert (mean.abs() <= 4 * x.std(0) / n**0.5 + 1e-3).all() and torch.equal(x, again)
    assert product.support.contains(x).all()


def test_draws_stay_in_the_box_where_rounding_would_leave_it(monkeypatch):
    """The last cell's largest u gives 59.261669 in float32, and the box ends at 59.261665."""
    model = Quadrature(Function(lambda x: 0 * x[:, 0]), "exp", 25.35824889539147, 59.26166482962634, cells=432)
    monkeypatch.setattr(quadrature, "uniform", lambda shape, *_: torch.full(shape, 1 - 2**-24))
    x = model.draw((5000, 1), torch.Generator().manual_seed(0))
    assert x.max() > 59.2616 and model.support.contains(x).all()


class Polynomial(torch.nn.Module):
    """f = a x + b x^2."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.3, -0.2]))

    def forward(self, x, t):
        return torch.cat([x, x.square()], 1) @ self.weight


def test_the_gradient_of_the_likelihood_passes_through_z():
    """exp(a x + b x^2) fitted by likelihood is the Gaussian of the sample's mean and variance."""
    x = 0.5 + 0.8 * torch.randn(2000, 1, generator=torch.Generator().manual_seed(0), **F64)
    model, loss = Quadrature(Polynomial(), "exp", -8.0, 8.0).double(), NegativeLogLikelihood()
    loss.check(model)
    minimise(loss, model, x)
    mean, variance = float(x.mean()), float(x.var(correction=0))
    expected = torch.tensor([mean / variance, -0.5 / variance], **F64)
    torch.testing.assert_close(model.net.weight.detach(), expected, rtol=1e-5, atol=0)


def test_outside_of_the_box_f_need_not_be_defined():
    """x^2 / 9 on [0, 3] as exp(2 log x): NaN below 0 in the logarithm reaches neither p nor a gradient."""
    x = torch.tensor([[-1.0], [1.0]], **F64, requires_grad=True)
    log_p = made(lambda x: 2 * x[:, 0].log(), "exp", 0.0, 3.0).log_prob(x)
    (slope,) = torch.autograd.grad(log_p.exp().sum(), x)
    assert log_p[0] == -math.inf and slope.isfinite().all()
    assert float(log_p[1].exp().detach()) == pytest.approx(1 / 9, rel=1e-4)


def test_where_f_is_zero_gradients_are_finite():
    model = Quadrature(torch.nn.Linear(1, 1), "square", -1.0, 1.0, cells=2)
    model.net.forward = lambda x, t: (model.net.weight * x)[:, 0]
    model.log_prob(torch.zeros(3, 1)).sum().backward()
    assert model.net.weight.grad.isfinite().all()


def well(x):
    return (x.square() - 1).square().sum(1)


@pytest.mark.parametrize("energy", ["gaussian", "double well"])
def test_annealing_finds_the_constant(energy):
    """Of a Gaussian 0; of exp(-(x^2 - 1)^2) that of the quadrature."""
    g = torch.Generator().manual_seed(0)
    if energy == "gaussian":
        model, known, d = Gaussian([0.5, -1.0], [0.7, 2.0]).double(), 0.0, 2
    else:
        model, d = EnergyNetwork(Function(well), readout="scalar").double(), 1
        known = float(made(lambda x: -well(x), "exp", -4.0, 4.0).log_constant())
    path = annealing_path(model, torch.zeros(d, **F64), torch.full((d,), 2.0, **F64), MALA(1, 0.2))
    betas = temperatures(100)
    path.tune(tuned_steps(path, betas, 50, g))
    found = partition(path, log_weights(path, betas, path.start(2000, g), g))
    assert found.error <= 0.03
    assert abs(found.log_z - known) <= 4 * found.error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"low": 1.0, "high": 1.0}, "low is 1.* < high"),
        ({"cells": 301}, "cells.*301"),
        ({"dimensions": 3}, "dimensions.*3"),
        ({"g": "cube"}, "g is .*cube"),
    ],
)
def test_wrong_options_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        made(np.sin, **({"g": "exp", "low": 0.0, "high": 1.0} | options))


def test_a_network_of_labels_and_points_of_another_dimension_are_refused():
    f = Function(lambda x: x[:, 0])
    with pytest.raises(ValueError, match=r"expected 1 values.*Quadrature"):
        made(lambda x: x[:, 0], "exp", 0.0, 1.0).log_prob(torch.zeros(3, 2, **F64))
    f.classes = 3
    with pytest.raises(ValueError, match="net.classes is 3, expected null"):
        Quadrature(f, "exp", 0.0, 1.0)

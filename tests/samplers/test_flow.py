"""The ODE in t itself: exact Gaussians for every alpha(1), its orders, DDIM, and what is refused."""

import math

import pytest
import torch

from lightning_gen.likelihood import ODELikelihood
from lightning_gen.models import Denoiser, Guided, VelocityNetwork
from lightning_gen.process import VP, Clean, Interpolant
from lightning_gen.samplers import (
    DDIM,
    RK45,
    Ancestral,
    DPMSolver,
    EDMHeun,
    EulerMaruyama,
    FlowODE,
    PredictorCorrector,
    ProbabilityFlow,
)
from tests.flows import GaussianVelocity, Straight
from tests.networks import Curved

F64 = {"dtype": torch.float64}
ENDS = (0.0, 1e-8, 1e-5, 1e-3)


def noise(n=200, d=2):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0), **F64)


@pytest.mark.parametrize("method", ["heun", "rk4"])
@pytest.mark.parametrize("alpha_end", ENDS)
def test_a_gaussian_has_its_deviation_and_its_likelihood_for_every_alpha_at_the_end(alpha_end, method):
    """MATHEMATICS 9: from N(0, sigma(1)^2 I), 200 uniform steps, deviation to 1e-3 and likelihood to 1e-4 nats."""
    model = GaussianVelocity(0.7, alpha_end)
    x = torch.ones(1, 1, **F64)  # the map is linear
    deviation = float(FlowODE(200, method)(model, x)) * model.process.prior_sigma
    assert deviation == pytest.approx(0.7, abs=1e-3)
    points = 0.7 * noise()
    nats, calls = ODELikelihood(method, steps=200, t_start=0.0)(model, points)
    truth = torch.distributions.Normal(0.0, torch.tensor(0.7, **F64)).log_prob(points).sum(1)
    torch.testing.assert_close(nats, truth, rtol=0, atol=1e-4)
    assert calls == 200 * {"heun": 2, "rk4": 4}[method]


@pytest.mark.parametrize(("method", "order", "steps"), [("euler", 1, 200), ("heun", 2, 50), ("rk4", 4, 100)])
def test_halving_the_step_divides_the_error_by_two_to_the_order(method, order, steps):
    """The map of one Gaussian to another is exact: (x_s - mean_s) / sd_s is constant."""
    model, x = GaussianVelocity(0.5, 0.0, mean=1.0), torch.ones(1, 1, **F64)
    few, many = (abs(float(FlowODE(n, method)(model, x)) - 1.5) for n in (steps, 2 * steps))
    assert math.log2(few / many) == pytest.approx(order, rel=0.1)


@pytest.mark.parametrize("alpha_end", ENDS)
def test_an_euler_step_is_ddims(alpha_end):
    model, x = GaussianVelocity(0.5, alpha_end, mean=0.3), noise(4)
    for a, b in zip(FlowODE(12, "euler").trajectory(model, x), DDIM(12).trajectory(model, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_one_step_along_straight_paths_is_exact():
    z = noise(5)
    torch.testing.assert_close(FlowODE(1, "euler")(Straight(), z), Straight.shift + Straight.scale * z)


def test_a_step_is_runge_and_kuttas():
    """With a nonlinear field, against the textbook's formula, and with its number of evaluations."""
    model, x = VelocityNetwork(Curved()), noise(3, 4).view(3, 1, 2, 2)

    def u(x, t):
        return model.velocity(x, torch.full((3,), t, **F64))

    h = -0.5
    k1 = u(x, 1.0)
    k2 = u(x + h / 2 * k1, 0.75)
    k3 = u(x + h / 2 * k2, 0.75)
    k4 = u(x + h * k3, 0.5)
    states = list(FlowODE(2, "rk4").trajectory(model, x))
    torch.testing.assert_close(states[1], x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), rtol=1e-12, atol=1e-12)
    assert [FlowODE(2, method).evaluations(model, (3,)) for method in ("euler", "heun", "rk4")] == [2, 4, 8]


@pytest.mark.parametrize(
    "sampler",
    [
        ProbabilityFlow(),
        DPMSolver(),
        EDMHeun(),
        RK45(),
        EulerMaruyama(),
        PredictorCorrector(EulerMaruyama()),
    ],
)
def test_samplers_that_divide_by_alpha_are_refused_where_it_is_zero(sampler):
    with pytest.raises(TypeError, match=f"{type(sampler).__name__}.*alpha.*Interpolant.*FlowODE"):
        sampler.check(VelocityNetwork(Curved()))
    sampler.check(VelocityNetwork(Curved(), Interpolant(1e-2)))


@pytest.mark.parametrize("sampler", [DDIM(4), Ancestral(steps=4), DDIM(4, eta=1.0)])
def test_samplers_by_the_posterior_take_the_interpolant(sampler):
    model = GaussianVelocity(0.7)
    x = sampler(model, noise(3), torch.Generator().manual_seed(0))
    assert torch.isfinite(x).all()


@pytest.mark.parametrize("model", [Denoiser(Curved(), VP()), Denoiser(Curved(), Interpolant(), "clean")])
def test_a_velocity_that_is_not_finite_is_refused(model):
    with pytest.raises(TypeError, match=f"FlowODE.*velocity.*{type(model.process).__name__}"):
        FlowODE().check(model)


def test_a_velocity_needs_a_process_with_rates():
    for process in (VP(), Clean()):
        with pytest.raises(ValueError, match=f"process.*{type(process).__name__}.*Interpolant"):
            VelocityNetwork(Curved(), process)


def test_guidance_mixes_velocities():
    class Labelled(torch.nn.Module):
        def forward(self, x, t, label):
            return x * (1 + label[:, None]) + t[:, None] / 999

    model, label, z = VelocityNetwork(Labelled()), torch.tensor([0, 1, 1]), noise(3)
    guided = Guided(model, label, 2.0, null=2)
    t = torch.full((3,), 0.3, **F64)
    none, given = (model.with_label(each).velocity(z, t) for each in (torch.full((3,), 2), label))
    torch.testing.assert_close(guided.velocity(z, t), none + 2 * (given - none))
    x = FlowODE(1, "euler")(guided, z)
    one = torch.ones(3, **F64)
    torch.testing.assert_close(x, z - guided.velocity(z, one), rtol=1e-12, atol=1e-12)

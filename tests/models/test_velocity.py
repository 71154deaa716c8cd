"""A velocity gives clean data, noise and score: identities of the interpolant, of Gaussians, and of every process."""

import pytest
import torch

from lightning_gen.models import Denoiser, Guided, Scored, ScoreNetwork, VelocityNetwork
from lightning_gen.models.denoiser import PARAMETRIZATIONS
from lightning_gen.process import VP, Interpolant
from tests.flows import GaussianVelocity
from tests.gaussian import PROCESSES, Gaussian, example
from tests.losses.nets import Sine

F64 = {"dtype": torch.float64}
TIMES = (0.0, 0.2, 0.7, 1.0)


def points(n=5):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0), **F64)


@pytest.mark.parametrize("t", TIMES)
def test_clean_data_noise_and_score_of_the_interpolant(t):
    """MATHEMATICS 9: x_0 = x - t u, noise = x + (1 - t) u, score = -noise / t; finite at both ends but the score."""
    net, x, time = Sine(), points(), torch.full((5,), t, **F64)
    model, u = VelocityNetwork(net), net(points(), 999 * time)
    torch.testing.assert_close(model.velocity(x, time), u, rtol=0, atol=0)
    torch.testing.assert_close(model.denoise(x, time), x - t * u, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.noise(x, time), x + (1 - t) * u, rtol=1e-12, atol=1e-12)
    if t > 0:
        torch.testing.assert_close(model.score(x, time), -(x + (1 - t) * u) / t, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("alpha_end", [0.0, 1e-5, 0.1])
def test_a_gaussians_score_comes_for_free(alpha_end):
    """-(x - alpha m) / (alpha^2 s^2 + sigma^2), from the velocity alone."""
    model, x = GaussianVelocity(0.7, alpha_end, mean=0.5), points()
    for t in (0.1, 0.5, 1.0):
        time = torch.full((5,), t, **F64)
        mean, variance = model.law(time[:, None])
        torch.testing.assert_close(model.score(x, time), -(x - mean) / variance, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("quantity", ["score", "noise", "denoise"])
@pytest.mark.parametrize("name", PROCESSES)
def test_every_quantity_gives_the_slope_of_the_flow(name, quantity):
    """u = f x - g^2 s / 2 (Song et al., 2021), which is alpha' x_0 + sigma' noise, by the model and by its readings."""
    truth = Gaussian(PROCESSES[name](), *example())

    class Other(Scored):
        pass

    setattr(Other, quantity, lambda self, x, t: getattr(truth, quantity)(x, t))
    model, x = Other(truth.process), points()
    for t in (0.213, 0.777):
        time = torch.full((5,), t, **F64)
        f, g2 = truth.process.sde(torch.tensor(t, **F64))
        slope = f * x - g2 / 2 * truth.score(x, time)
        torch.testing.assert_close(model.velocity(x, time), slope, rtol=1e-7, atol=1e-8)
        (reading,) = model.readings([t])
        a, b = reading.velocity
        torch.testing.assert_close(a * x + b * model.output(x, reading), slope, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("alpha_end", [0.0, 0.1])
def test_readings_are_the_models_own_quantities(alpha_end):
    model, x = VelocityNetwork(Sine(), Interpolant(alpha_end)), points()
    for reading in model.readings([0.3, 1.0]):
        time = torch.full((5,), reading.t, **F64)
        for quantity in ("score", "noise", "denoise", "velocity"):
            a, b = getattr(reading, quantity)
            expected = getattr(model, quantity)(x, time)
            torch.testing.assert_close(a * x + b * model.output(x, reading), expected, rtol=1e-12, atol=1e-12)


CALLED_ONCE = {
    "velocity": VelocityNetwork,
    "score": lambda net: ScoreNetwork(net, VP()),
    **{name: lambda net, name=name: Denoiser(net, VP(), name) for name in PARAMETRIZATIONS},
}


@pytest.mark.parametrize("quantity", ["score", "noise", "denoise", "velocity"])
@pytest.mark.parametrize("name", CALLED_ONCE)
def test_every_quantity_calls_the_network_once(name, quantity):
    """And the velocity is alpha' x_0 + sigma' noise of one call, as it is of two."""
    calls = []

    class Counted(Sine):
        def forward(self, x, t):
            calls.append(t)
            return super().forward(x, t)

    model, x, time = CALLED_ONCE[name](Counted()), points(), torch.full((5,), 0.3, **F64)
    value = getattr(model, quantity)(x, time)
    assert len(calls) == 1
    if quantity == "velocity":
        alpha_rate, sigma_rate = model.process.rates(time[0])
        torch.testing.assert_close(value, alpha_rate * model.denoise(x, time) + sigma_rate * model.noise(x, time))


@pytest.mark.parametrize("quantity", ["noise", "denoise"])
def test_a_model_of_one_quantity_is_asked_for_it_once(quantity):
    truth, calls = Gaussian(VP(), *example()), []

    class Other(Scored):
        pass

    setattr(Other, quantity, lambda self, x, t: calls.append(t) or getattr(truth, quantity)(x, t))
    Other(truth.process).velocity(points(), torch.full((5,), 0.3, **F64))
    assert len(calls) == 1


def test_velocities_are_read_in_inference_mode_too():
    """The rates are derivatives, which a model under torch.inference_mode needs as much."""
    x, time = points(), torch.full((5,), 0.3, **F64)
    model = VelocityNetwork(Sine())
    expected = model.denoise(x, time).detach()
    with torch.inference_mode():
        torch.testing.assert_close(model.denoise(x, time.clone()), expected)


def test_a_guided_velocity_is_one():
    class Labelled(Sine):
        def forward(self, x, t, label):
            return super().forward(x, t) * (1 + label[:, None])

    guided = Guided(VelocityNetwork(Labelled()), torch.tensor([0, 1, 1, 0, 1]), 2.0, null=2)
    x, time = points(), torch.full((5,), 0.4, **F64)
    assert guided.defined() == "velocity"
    torch.testing.assert_close(guided.denoise(x, time), x - 0.4 * guided.velocity(x, time), rtol=1e-10, atol=1e-10)

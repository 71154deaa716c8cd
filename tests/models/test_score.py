"""Tweedie's formula: score, noise and clean data are one thing, whichever a model or a network predicts."""

import pytest
import torch

from lightning_gen.models import Denoiser, Scored, ScoreNetwork, VelocityNetwork
from lightning_gen.models.denoiser import PARAMETRIZATIONS
from lightning_gen.process import VE, VP, Clean, DiscreteVP, Interpolant, linear_betas
from tests.gaussian import PROCESSES, QUANTITIES, Gaussian, example
from tests.networks import Exact

F64 = {"dtype": torch.float64}


@pytest.fixture(params=PROCESSES)
def truth(request):
    return Gaussian(PROCESSES[request.param](), *example())


def batch(n=6):
    g = torch.Generator().manual_seed(1)
    return torch.randn(n, 2, generator=g, dtype=torch.float64), torch.linspace(0.05, 1, n, dtype=torch.float64)


@pytest.mark.parametrize("defined", ["score", "noise", "denoise"])
def test_one_reading_gives_the_other_two(truth, defined):
    reading = type("Reading", (Scored,), {defined: lambda self, x, t: QUANTITIES[defined](truth, x, t)})
    model = reading(truth.process)
    x, t = batch()
    for name in ("score", "noise", "denoise"):
        torch.testing.assert_close(QUANTITIES[name](model, x, t), QUANTITIES[name](truth, x, t), rtol=1e-9, atol=1e-10)


def test_tweedie_gives_the_posterior_mean_of_a_gaussian(truth):
    """E[x_0 | x_t] = m + alpha cov (alpha^2 cov + sigma^2 I)^-1 (x - alpha m), by Gaussian conditioning."""
    x, t = batch()
    for i in range(len(x)):
        alpha, variance = truth.process.alpha(t[i]), truth.process.variance(t[i])
        total = alpha**2 * truth.cov + variance * torch.eye(2).double()
        mean = truth.mean + alpha * truth.cov @ torch.linalg.solve(total, x[i] - alpha * truth.mean)
        torch.testing.assert_close(truth.denoise(x, t)[i], mean, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_every_parametrization_of_the_truth_is_the_truth(truth, name):
    net = Exact(truth, name)
    model = Denoiser(net, truth.process, name)
    x, net.t = batch()
    for reading in ("denoise", "noise", "score"):
        expected = QUANTITIES[reading](truth, x, net.t)
        torch.testing.assert_close(QUANTITIES[reading](model, x, net.t), expected, rtol=1e-9, atol=1e-9)


def lambda_net(output):
    class Net(torch.nn.Module):
        def forward(self, x, t, label=None):
            return output if label is None else output + label.reshape(-1, 1, 1, 1)

    return Net()


def test_a_bound_label_reaches_the_network_and_leaves_the_model_alone():
    output = torch.zeros(3, 1, 2, 2)
    model = Denoiser(lambda_net(output), VP())
    bound = model.with_label(torch.tensor([1, 2, 3]))
    x, t = torch.zeros(3, 1, 2, 2), torch.full((3,), 0.5)
    assert bound.noise(x, t)[:, 0, 0, 0].tolist() == pytest.approx([1, 2, 3])
    assert not model.noise(x, t).any()
    assert bound.net is model.net


@pytest.mark.parametrize("make", [VP, VE, lambda: VE(0.1, 7)])
def test_prior_and_its_density_agree(make):
    model = ScoreNetwork(torch.nn.Identity(), make())
    x = model.prior((5, 3, 2), torch.Generator().manual_seed(0))
    law = torch.distributions.Normal(0, model.process.prior_sigma)
    torch.testing.assert_close(model.log_prior(x), law.log_prob(x).sum((1, 2)))
    assert make is VP or model.process.prior_sigma != 1


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="process.*Clean"):
        Denoiser(torch.nn.Identity(), Clean())
    with pytest.raises(ValueError, match="noise, clean, velocity, edm, ve"):
        Denoiser(torch.nn.Identity(), VP(), "v")


def test_a_score_network_is_a_score():
    class Net(torch.nn.Module):
        def forward(self, x, t):
            return -x / (1 + t[:, None])

    model = ScoreNetwork(Net(), VE(0.1, 1))
    x, t = batch()
    score = -x / (1 + 999 * t[:, None])
    torch.testing.assert_close(model.score(x, t), score)
    torch.testing.assert_close(model.denoise(x, t), x + model.process.variance(t)[:, None] * score)


@pytest.mark.parametrize("process", [VE(), VP(), DiscreteVP(linear_betas(1000))])
def test_edm_scales_input_and_target_to_unit_variance(process, sigma_data=0.5):
    t = torch.linspace(0.1, 1, 5, dtype=torch.float64)
    c_skip, c_out, c_in, c_noise = PARAMETRIZATIONS["edm"](process, t)
    alpha, variance = process.alpha(t), process.variance(t)
    total = alpha**2 * sigma_data**2 + variance
    torch.testing.assert_close(c_in**2 * total, torch.ones(5).double())
    torch.testing.assert_close(c_skip, alpha * sigma_data**2 / total)  # E[x_0 | x] of such data
    torch.testing.assert_close(c_out**2, (1 - alpha * c_skip) ** 2 * sigma_data**2 + c_skip**2 * variance)
    torch.testing.assert_close(c_noise, (variance.sqrt() / alpha).log() / 4)


@pytest.mark.parametrize("name", ["noise", "clean", "velocity"])
def test_every_parametrization_tells_the_network_its_index(name):
    process, t = DiscreteVP(linear_betas(10)), torch.arange(1, 11, **F64) / 10
    assert torch.equal(PARAMETRIZATIONS[name](process, t)[3], torch.arange(10, **F64))


def test_a_network_of_the_noise_is_it_to_the_bit():
    """As it is by its four coefficients, but for their rounding."""

    class Net(torch.nn.Module):
        def forward(self, x, time):
            return x.sin() * time[:, None]

    process, net, (x, t) = DiscreteVP(linear_betas(1000)), Net(), batch()
    model, written = (Denoiser(net, process, each) for each in ("noise", lambda *a: PARAMETRIZATIONS["noise"](*a)))
    assert torch.equal(model.noise(x, t), net(x, process.network_time(t)))
    torch.testing.assert_close(model.noise(x, t), written.noise(x, t), rtol=1e-9, atol=1e-9)


def test_a_noise_network_is_read_without_loss_at_small_noise():
    output = torch.randn(100, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    model = Denoiser(lambda_net(output), DiscreteVP(linear_betas(1000)))
    read = model.noise(1e3 * torch.ones(100, 3, 2, 2), torch.arange(1, 101) / 1000)
    torch.testing.assert_close(read, output, rtol=1e-6, atol=1e-6)


def test_published_ve_networks_receive_the_logarithm_of_sigma():
    """score = F(x, ln sigma) / sigma, alpha being 1."""

    class Told(torch.nn.Module):
        def forward(self, x, level):
            return x.square() * level[:, None]

    model = Denoiser(Told(), VE(0.1, 3), "ve")
    x, t = batch()
    sigma = model.process.sigma(t)[:, None]
    torch.testing.assert_close(model.score(x, t), x.square() * sigma.log() / sigma, rtol=1e-9, atol=1e-9)


class Narrow(torch.nn.Module):
    """(B, 1) of (B, D), which a loss would broadcast."""

    def forward(self, x, t):
        return x[:, :1]


@pytest.mark.parametrize(
    "model",
    [ScoreNetwork(Narrow(), VP()), Denoiser(Narrow(), VP(), "noise"), VelocityNetwork(Narrow(), Interpolant())],
)
def test_a_network_of_another_shape_is_refused(model):
    x, t = batch()
    said = r"Narrow\(x, t\) has shape \(6, 1\) for x of shape \(6, 2\), expected that of x: change"
    with pytest.raises(ValueError, match=said):
        model.velocity(x, t)
    with pytest.raises(ValueError, match=said):
        model.output(x, model.readings([0.5])[0])

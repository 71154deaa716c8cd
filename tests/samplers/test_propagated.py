"""Every sampler whose steps are affine on Gaussian data, without Monte Carlo: moments pushed through its own `step`."""

import math

import pytest
import torch

from lightning_gen import samplers
from lightning_gen.process import VE, VP, Clean, SubVP
from lightning_gen.samplers.base import Denoising
from tests.gaussian import PROCESSES, Gaussian, example

F64 = {"dtype": torch.float64}


def moments(sampler, model, monkeypatch, mean, cov):
    """Mean and covariance at the end, exactly: a step is A x + b + N z, read off at basis vectors of x and of z.

    Rows: the mean; the mean plus each column of a root of the covariance; the mean again, one for each direction of z.
    """
    d, drawn = len(mean), []

    def probe(shape, **_):
        drawn.append(True)
        return torch.cat([torch.zeros(1 + d, d, **F64), torch.eye(d, **F64)])

    monkeypatch.setattr(torch, "randn", probe)
    rows, carry = torch.cat([mean[None], mean + torch.linalg.cholesky(cov).T, mean.repeat(d, 1)]), None
    for transition in sampler.plan(model, (1, 2)):
        drawn.clear()
        if isinstance(transition, Denoising):
            rows = model.denoise(rows, torch.tensor(transition.t, **F64))
        else:
            rows, carry = sampler.step(model, rows, transition, carry, None)
        if drawn:
            mean, columns = rows[0], rows[1:] - rows[0]
            cov = columns.T @ columns
            root = torch.linalg.cholesky(cov)
            rows = torch.cat([mean[None], mean + root.T, mean.repeat(d, 1)])
    columns = rows[1 : 1 + d] - rows[0]
    return rows[0], columns.T @ columns


def kl(mean, cov, model):
    """KL(N(mean, cov) || data), nats."""
    normal = torch.distributions.MultivariateNormal
    return float(torch.distributions.kl_divergence(normal(mean, cov), normal(model.mean, model.cov)))


def divergence(sampler, model, monkeypatch):
    """What N(0, prior_sigma^2 I) becomes, against the data."""
    d = len(model.mean)
    start = model.process.prior_sigma**2 * torch.eye(d, **F64)
    return kl(*moments(sampler, model, monkeypatch, torch.zeros(d, **F64), start), model)


DIFFUSIONS = {
    "ancestral small, log snr": (lambda n: samplers.Ancestral("small", n, spacing="log_snr"), 40),
    "ancestral large, karras": (lambda n: samplers.Ancestral("large", n, spacing="karras"), 40),
    "ddim, karras": (lambda n: samplers.DDIM(n, spacing="karras"), 25),
    "ddim half, log snr": (lambda n: samplers.DDIM(n, 0.5, spacing="log_snr"), 25),
    "euler-maruyama": (samplers.EulerMaruyama, 25),  # no finer grid divides the cosine chain's first step, log 1000
    "heun": (lambda n: samplers.ProbabilityFlow(n), 12),
    "rk4": (lambda n: samplers.ProbabilityFlow(n, "rk4"), 6),
    "dpm-solver": (lambda n: samplers.DPMSolver(n), 12),
    "edm churned": (lambda n: samplers.EDMHeun(n, n / 10, s_max=8.0), 12),
}


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("sampler", DIFFUSIONS)
def test_twice_the_steps_come_nearer_to_the_data_until_only_the_ends_are_left(sampler, name, monkeypatch):
    """The divergence falls by half at least, to the floor that prior and last noise leave, and below 0.02."""
    model = Gaussian(PROCESSES[name](), *example())
    make, steps = DIFFUSIONS[sampler]
    few, many = (divergence(make(n), model, monkeypatch) for n in (steps, 2 * steps))
    floor = divergence(samplers.ProbabilityFlow(100), model, monkeypatch)
    assert many < max(few / 2, 2 * floor)
    assert many < 0.02


@pytest.mark.parametrize("t", [0.1, 0.5])
@pytest.mark.parametrize("process", [VP, SubVP, VE])
def test_langevin_ends_at_its_own_stationary_law(process, t, monkeypatch):
    """On N(m, S) the law is N(m, S (I - eta S^-1 / 2)^-1), whatever the start: no random number is drawn."""
    model = Gaussian(process(), *example())
    alpha, variance = (float(law(torch.tensor(t, **F64))) for law in (model.process.alpha, model.process.variance))
    cov = alpha**2 * model.cov + variance * torch.eye(2, **F64)
    low, high = torch.linalg.eigvalsh(cov).tolist()
    eta, steps = low / 2, math.ceil(40 * high / low)
    start = (torch.tensor([3.0, -2.0], **F64), 0.1 * torch.eye(2, **F64))
    result = moments(samplers.Langevin(steps, eta, t=t), model, monkeypatch, *start)
    torch.testing.assert_close(result[0], alpha * model.mean, rtol=1e-7, atol=1e-7)
    biased = cov @ torch.linalg.inv(torch.eye(2, **F64) - eta / 2 * torch.linalg.inv(cov))
    torch.testing.assert_close(result[1], biased, rtol=1e-7, atol=1e-7)


def test_langevin_on_clean_data_has_the_bias_of_the_lecture(monkeypatch):
    """1 / (1 - eta / 2) on N(0, 1), to rounding; in the other convention 1 / (1 - eps / 4)."""
    model = Gaussian(Clean(), torch.zeros(1), torch.ones(1, 1))
    start = (torch.ones(1, **F64), 5 * torch.ones(1, 1, **F64))
    for convention, share in (("eta", 2), ("epsilon", 4)):
        for size in (0.1, 0.8):
            mean, cov = moments(samplers.Langevin(800, size, convention), model, monkeypatch, *start)
            assert float(mean) == pytest.approx(0, abs=1e-8)
            assert float(cov) == pytest.approx(1 / (1 - size / share), rel=1e-9)


@pytest.mark.parametrize(
    ("sigma_max", "levels", "steps_each", "published"),
    [(50.0, 232, 5, 6.2e-6), (90.0, 500, 5, 3.3e-6), (190.0, 1086, 3, 1.8e-6), (348.0, 2311, 3, 9e-7)],
    ids=["cifar10", "celeba", "lsun tower", "ffhq"],
)
def test_technique_four_chooses_the_published_steps(sigma_max, levels, steps_each, published):
    """NCSNv2's epsilon of four data sets, printed with two digits, at the last level, where alpha_L = epsilon."""
    *_, last, _ = samplers.AnnealedLangevin(steps_each=steps_each).transitions(VE(0.01, sigma_max, levels=levels))
    assert last.coefficients == pytest.approx((1, published, math.sqrt(2 * published)), rel=0.02)


def test_the_last_step_takes_out_the_noise_that_annealing_leaves(monkeypatch):
    """Data at a point: the chain ends with some sigma_L^2 about it, and Tweedie's formula gives the point."""
    process, point = VE(0.01, 50.0, levels=232), torch.full((1,), 0.3, **F64)
    model, start = Gaussian(process, point, torch.zeros(1, 1)), (torch.zeros(1, **F64), 2500 * torch.ones(1, 1, **F64))
    _, noisy = moments(samplers.AnnealedLangevin(denoise=False), model, monkeypatch, *start)
    assert 0.5 < float(noisy) / 0.01**2 < 1.5
    mean, cov = moments(samplers.AnnealedLangevin(), model, monkeypatch, *start)
    assert float(mean) == pytest.approx(0.3, abs=1e-9) and float(cov) < 1e-20

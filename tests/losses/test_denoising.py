"""One line of loss for DDPM and NCSN, minimal at the truth."""

import pytest
import torch

from lightning_gen.losses import (
    DenoisingScoreMatching,
    ExactScoreMatching,
    SlicedScoreMatching,
    constant,
    edm,
    levels,
    lognormal,
    uniform,
    vlb,
)
from lightning_gen.models import Scored
from lightning_gen.process import VE, VP, Clean, DiscreteVP, expand, linear_betas
from tests.gaussian import PROCESSES, Gaussian, example


class Shifted(Scored):
    """The truth plus an error of the noise."""

    def __init__(self, truth, error):
        super().__init__(truth.process)
        self.truth, self.error = truth, error

    def noise(self, x, t):
        return self.truth.noise(x, t) + self.error


def data(n, seed=0):
    mean, cov = example()
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return mean + z @ torch.linalg.cholesky(cov).T


def sde(model, t, x):
    """g of the process, by the difference quotient of alpha and sigma^2."""
    process, h, t = model.process, 1e-6, t.double()
    drift = (process.alpha(t + h) / process.alpha(t - h)).log() / (2 * h)
    growth = (process.variance(t + h) - process.variance(t - h)) / (2 * h)
    return expand((growth - 2 * drift * process.variance(t)).sqrt(), x)


def c_out(model, t, x, sigma_data):
    """EDM's scale of the network's output at the level sigma / alpha."""
    level = expand(model.process.sigma(t) / model.process.alpha(t), x)
    return level * sigma_data / (level.square() + sigma_data**2).sqrt()


@pytest.mark.parametrize("name", PROCESSES)
def test_the_loss_is_least_at_the_truth(name):
    """Adding a constant c to the optimal noise adds |c|^2 in expectation: the same draws make the difference sharp."""
    truth, x, loss = (
        Gaussian(PROCESSES[name](), *example()),
        data(20_000),
        DenoisingScoreMatching(uniform(0.02), reduction="sum"),
    )
    c = torch.tensor([0.3, -0.2], dtype=torch.float64)
    best = loss(truth, x, torch.Generator().manual_seed(1))
    worse = loss(Shifted(truth, c), x, torch.Generator().manual_seed(1))
    gap = worse - best
    assert abs(float(gap.mean()) - float(c.square().sum()) / 2) < 4 * float(gap.std()) / len(x) ** 0.5


@pytest.mark.parametrize(
    ("weight", "error"),
    [
        ("simple", lambda m, x0, x, t, e: m.noise(x, t) - e),
        ("clean", lambda m, x0, x, t, e: m.denoise(x, t) - x0),
        ("score", lambda m, x0, x, t, e: m.score(x, t) + e / expand(m.process.sigma(t), x)),
        ("likelihood", lambda m, x0, x, t, e: sde(m, t, x) * (m.score(x, t) + e / expand(m.process.sigma(t), x))),
        ("edm", lambda m, x0, x, t, e: (m.denoise(x, t) - x0) / c_out(m, t, x, 0.5)),
        (edm(2.0), lambda m, x0, x, t, e: (m.denoise(x, t) - x0) / c_out(m, t, x, 2.0)),
        (
            "velocity",
            lambda m, x0, x, t, e: (
                expand(m.process.alpha(t), x) * (m.noise(x, t) - e)
                - expand(m.process.sigma(t), x) * (m.denoise(x, t) - x0)
            ),
        ),
    ],
)
@pytest.mark.parametrize("name", PROCESSES)
def test_each_weight_is_the_error_of_what_it_is_named_for(name, weight, error):
    model, x0 = Shifted(Gaussian(PROCESSES[name](), *example()), 0.1), data(50)
    measured = DenoisingScoreMatching(uniform(0.02), weight, "sum")(model, x0, torch.Generator().manual_seed(3))
    g = torch.Generator().manual_seed(3)
    t = uniform(0.02)(50, g)
    noise = torch.randn(x0.shape, generator=g, dtype=torch.float64)
    x = model.process.perturb(x0, t, noise)
    expected = error(model, x0, x, t, noise).square().sum(1) / 2
    torch.testing.assert_close(measured, expected, rtol=1e-4, atol=1e-8)  # t itself is single precision


def test_reductions_are_ddpms_and_ncsns():
    model, x = Gaussian(VP(), *example()), data(10)
    mean = DenoisingScoreMatching(uniform(), reduction="mean")(model, x, torch.Generator().manual_seed(0))
    total = DenoisingScoreMatching(uniform(), reduction="sum")(model, x, torch.Generator().manual_seed(0))
    torch.testing.assert_close(total, mean * 2 / 2)  # d = 2 dimensions, times one half


def test_levels_are_uniform_on_the_grid_and_never_zero():
    t = levels(10)(100_000, torch.Generator().manual_seed(0))
    k = (t * 10).round().long()
    assert torch.equal(t, k.double() / 10)
    counts = torch.bincount(k, minlength=11)
    assert counts[0] == 0
    chi2 = ((counts[1:] - 10_000) ** 2 / 10_000).sum()
    assert chi2 < 9 + 4 * (2 * 9) ** 0.5 + 4


def test_uniform_times_stay_above_their_minimum():
    t = uniform(0.25)(10_000, torch.Generator().manual_seed(0))
    assert t.min() >= 0.25
    assert t.max() <= 1
    assert abs(float(t.mean()) - 0.625) < 4 * 0.75 / 12**0.5 / 100


@pytest.mark.parametrize(
    "make",
    [
        ExactScoreMatching,
        SlicedScoreMatching,
        lambda: DenoisingScoreMatching(uniform()),
        lambda: DenoisingScoreMatching(levels(10), "vlb"),
    ],
)
def test_the_draws_depend_on_the_generator_alone(make):
    model, x, loss = Gaussian(DiscreteVP(linear_betas(10)), *example()), data(5), make()
    torch.manual_seed(0)
    first = loss(model, x, torch.Generator().manual_seed(7))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(first, loss(model, x, torch.Generator().manual_seed(7)))
    assert torch.equal(before, torch.get_rng_state())
    changed = not torch.equal(first, loss(model, x, torch.Generator().manual_seed(8)))
    assert changed == (make is not ExactScoreMatching)  # which draws nothing at t = 0


def test_ncsns_levels_are_geometric_and_take_both_ends():
    process, g = VE(0.02, 5, levels=4), torch.Generator().manual_seed(0)
    t = levels(4, first=0)(10_000, g)
    sigma, counts = process.sigma(t).unique(return_counts=True)
    torch.testing.assert_close(sigma, 0.02 * 250 ** (torch.arange(4).double() / 3), rtol=1e-12, atol=0)
    assert ((counts - 2500) ** 2 / 2500).sum() < 3 + 4 * 6**0.5 + 4
    assert not levels(1, first=0)(5, g).any()


@pytest.mark.parametrize("process", [VE(0.002, 80), VE(1, 1.5), VE(start="zero"), VP()])
def test_edms_levels_are_log_normal(process, n=20_000):
    """VE is defined beyond its levels, and none is cut off."""
    t = lognormal(process, -1.2, 1.2)(n, torch.Generator().manual_seed(0))
    level = -0.5 * process.snr(t).log()
    z = (level + 1.2) / 1.2
    assert abs(float(z.mean())) < 4 / n**0.5
    assert abs(float(z.var()) - 1) < 4 * (2 / n) ** 0.5
    assert abs(float(z.pow(3).mean())) < 4 * (15 / n) ** 0.5


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: DenoisingScoreMatching(uniform(), "snr"),
            "weight.*snr",
        ),
        (lambda: DenoisingScoreMatching(uniform(), reduction="max"), "reduction.*max"),
        (lambda: uniform(0), "minimum.*0"),
        (lambda: lognormal(VE(), std=0), "std.*0"),
        (lambda: lognormal(Clean()), "process.*Clean.*VE"),
        (lambda: constant(1.5), "t.*1.5"),
        (lambda: edm(0), "sigma_data.*0"),
        (lambda: vlb("middle"), "variance.*middle"),
        (lambda: levels(5, 2), "first.*2"),
        (
            lambda: DenoisingScoreMatching(uniform(), "vlb")(Gaussian(VP(), *example()), data(2), torch.Generator()),
            "vlb.*VP.*likelihood",
        ),
        (
            lambda: DenoisingScoreMatching(constant(0.0)).check(Gaussian(Clean(), *example())),
            "process.*Clean",
        ),
        (lambda: levels(0), "steps.*0"),
    ],
)
def test_wrong_options_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()

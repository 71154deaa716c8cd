"""Diffusion recovery likelihood against a Gaussian, whose levels and conditionals are closed forms."""

import math

import pytest
import torch

from lightning_gen.families.drl import few_steps
from lightning_gen.losses import RecoveryLikelihood
from lightning_gen.models import RecoveryEnergy, ScoreNetwork
from lightning_gen.nets import MLP
from lightning_gen.process import VP, DiscreteVP
from lightning_gen.samplers import TiltedLangevin
from tests.losses.nets import Sine

F64 = {"dtype": torch.float64}
MEAN, VARIANCE, LEVELS, FLOOR = 0.7, 0.3, 3, 0.3


class Exact(RecoveryEnergy):
    """The energies of data N(mean, variance): y = a_k x_k ~ N(a_k alpha_k mean, a_k^2 (alpha_k^2 variance + ...))."""

    def __init__(self):
        super().__init__(torch.nn.Identity(), few_steps(LEVELS, FLOOR, 0.1, 5.0))
        self.mean = torch.nn.Parameter(torch.tensor(MEAN, **F64))
        self.log_variance = torch.nn.Parameter(torch.tensor(math.log(VARIANCE), **F64))

    def law(self, k):
        """Mean and variance of y at levels k, (B,)."""
        t, a = (k + 1).double() / (LEVELS + 1), torch.tensor(self.shrink, **F64)[k]
        alpha, noise = self.process.alpha(t), self.process.variance(t)
        return a * alpha * self.mean, a**2 * (alpha**2 * self.log_variance.exp() + noise)

    def weighted(self, y, k):
        mean, variance = self.law(k)
        energy = (0.5 * (y - mean[:, None]).square() / variance[:, None]).sum(1)
        return torch.tensor(self.noise_variance, **F64)[k] * energy


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_chain_has_the_alphas_of_the_vp():
    """Level 0 has noise sigma_0, level k that and the VP's; v_k is the variance of the noise in a_k x_k."""
    process, t, floor = few_steps(4, FLOOR, 0.1, 20.0), torch.linspace(0, 1, 5, **F64), (1 - FLOOR**2) ** 0.5
    alpha = floor * VP().alpha(t)
    torch.testing.assert_close(process.alpha(torch.arange(1, 6, **F64) / 5), alpha)
    model = RecoveryEnergy(torch.nn.Identity(), process)
    assert model.levels == 4 and len(model.shrink) == len(model.noise_variance) == 4
    torch.testing.assert_close(torch.tensor(model.alpha, **F64), alpha)
    a = torch.tensor(model.shrink, **F64)
    torch.testing.assert_close(floor * a.cumprod(0), alpha[1:])
    torch.testing.assert_close(torch.tensor(model.noise_variance, **F64), a**2 * (1 - alpha[:-1] ** 2))
    with pytest.raises(ValueError, match="process has 1 steps"):
        RecoveryEnergy(torch.nn.Identity(), DiscreteVP([0.1]))


def test_the_energy_is_the_readout_over_the_noise():
    model = RecoveryEnergy(MLP((2,), 16, 1), few_steps(3, FLOOR, 0.1, 5.0), "norm")
    y, k = torch.randn(3, 2, generator=seeded()), torch.arange(3)
    readout = 0.5 * model.net(y, 333.0 * k).square().sum(1)
    torch.testing.assert_close(model.energy(y, k), readout / torch.tensor(model.noise_variance))


@torch.no_grad()
@pytest.mark.parametrize("k", range(LEVELS))
def test_tilted_langevin_has_the_conditionals_law(k):
    """p(y | x_{k+1}) = N(m, v), 1/v = 1/b^2 + 1/variance; of a finite step v / (1 - eta / 2v)."""
    model, chain, n = Exact(), TiltedLangevin(step_size=0.2), 5_000
    levels, anchor = torch.full((n,), k), torch.full((n, 1), 0.4, **F64)
    mean, variance = (float(each[0]) for each in model.law(levels))
    b2 = 1 - model.shrink[k] ** 2
    v = 1 / (1 / b2 + 1 / variance)
    noise = model.noise_variance[k]
    eta = 0.2 / (1 / b2 + 1 / noise)
    assert noise < variance and chain.coefficients(model)[k] == pytest.approx((eta, eta / b2, (2 * eta) ** 0.5))
    y, g = anchor, seeded(k)
    for _ in range(70):
        y = chain.move(model, y, anchor, levels, chain.coefficients(model)[k], g)
    expected = v / (1 - eta / (2 * v))
    assert abs(float(y.mean()) - v * (0.4 / b2 + mean / variance)) < 4 * (expected / n) ** 0.5
    assert abs(float(y.var()) / expected - 1) < 4 * (2 / n) ** 0.5


@pytest.mark.slow
def test_at_the_truth_the_mean_gradient_is_zero_and_elsewhere_it_points_back():
    loss, grown = RecoveryLikelihood(TiltedLangevin(steps=500, step_size=0.02)), []
    for shift in (0.0, 0.5):
        rows, model = [], Exact()
        with torch.no_grad():
            model.mean.add_(shift)
        for seed in range(8):
            g = seeded(seed)
            x = MEAN + VARIANCE**0.5 * torch.randn(4000, 1, generator=g, **F64)
            value = loss(model, x, g).mean()
            rows.append(torch.stack(torch.autograd.grad(value, [model.mean, model.log_variance])))
        rows = torch.stack(rows)
        grown.append(rows.mean(0) / (rows.std(0) / len(rows) ** 0.5))
    assert grown[0].abs().max() < 4, grown
    assert grown[1][0] > 10, "descent lowers the mean"


@torch.no_grad()
def test_samples_of_the_exact_energies_have_the_chains_moments():
    """Level by level y = A x_{k+1} + B + noise of variance C, by the steps' linear recursion; then near the data's."""
    model, s, n = Exact(), 0.2, 10_000
    x = TiltedLangevin(40, s).draw(model, (n, 1), seeded()).double()
    mean, variance = 0.0, 1.0
    for k in reversed(range(LEVELS)):
        m, v = (float(each) for each in model.law(torch.tensor([k])))
        a, A, B, C = model.shrink[k], 1.0, 0.0, 0.0
        b2 = 1 - a**2
        eta = s / (1 / b2 + 1 / model.noise_variance[k])
        for _ in range(40):
            keep = 1 - eta / b2 - eta / v
            A, B, C = keep * A + eta / b2, keep * B + eta * m / v, keep**2 * C + 2 * eta
        mean, variance = (A * mean + B) / a, (A**2 * variance + C) / a**2
    alpha = (1 - FLOOR**2) ** 0.5  # then to the mean of the data given x_0
    gain = alpha * VARIANCE / (alpha**2 * VARIANCE + FLOOR**2)
    mean, variance = MEAN + gain * (mean - alpha * MEAN), gain**2 * variance
    assert abs(float(x.mean()) - mean) < 4 * (variance / n) ** 0.5
    assert abs(float(x.var()) / variance - 1) < 4 * (2 / n) ** 0.5
    assert abs(mean - MEAN) < 0.1 and abs(variance / (gain * alpha * VARIANCE) - 1) < 0.15


def test_the_loss_trains_a_network_and_watches_its_chains():
    net = MLP((2,), 16, 1).double()
    model, loss = (
        RecoveryEnergy(net, few_steps(3, FLOOR, 0.1, 5.0), "reconstruction"),
        RecoveryLikelihood(TiltedLangevin(2)),
    )
    x = torch.randn(6, 2, generator=seeded(), **F64)
    value = loss(model, x, seeded(1))
    assert value.shape == (6,) and loss.max_deviation > 0
    assert all(gradient is not None for gradient in torch.autograd.grad(value.mean(), [net.last.weight, net.last.bias]))
    with pytest.raises(TypeError, match=r"RecoveryLikelihood needs.*RecoveryEnergy"):
        loss.check(ScoreNetwork(Sine()))

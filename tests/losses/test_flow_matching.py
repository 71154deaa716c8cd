"""Flow matching: the papers' loss written out, its minimum, the optimal coupling against brute force, its times."""

import itertools
import math

import pytest
import torch

from lightning_gen.losses import FlowMatching, constant, logit_normal, uniform
from lightning_gen.losses.flow_matching import optimal_partners
from lightning_gen.models import Denoiser, VelocityNetwork
from lightning_gen.process import VP, Clean, Interpolant
from tests.flows import GaussianVelocity
from tests.losses.nets import Sine

F64 = {"dtype": torch.float64}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), **F64)


@pytest.mark.parametrize("coupling", ["independent", "optimal"])
def test_the_loss_is_the_papers(coupling):
    """mean over dimensions of (u((1 - t) x_0 + t z, 999 t) - (z - x_0))^2, z drawn after t."""
    net, x = Sine(), randn(7, 2, seed=1)
    g = seeded(4)
    t = (1e-5 + (1 - 1e-5) * torch.rand(7, generator=g)).double()[:, None]
    z = torch.randn(7, 2, generator=g, **F64)
    if coupling == "optimal":
        z = z[optimal_partners(x, z)]
    expected = (net((1 - t) * x + t * z, 999 * t[:, 0]) - (z - x)).square().mean(1)
    loss = FlowMatching(uniform(), coupling)(VelocityNetwork(net), x, seeded(4))
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)  # t is drawn in single precision


@pytest.mark.parametrize("alpha_end", [0.0, 0.1])
def test_the_true_velocity_is_the_minimum(alpha_end, n=40_000):
    """The difference to a shifted one is the square of the shift: the cross term is zero in expectation."""
    truth, x = GaussianVelocity(0.7, alpha_end, mean=0.5), 0.5 + 0.7 * randn(n, 1, seed=2)

    class Shifted(GaussianVelocity):
        def velocity(self, x, t):
            return super().velocity(x, t) + 0.1 * x.sin()

    loss = FlowMatching(uniform())
    least, other = (loss(model, x, seeded(3)) for model in (truth, Shifted(0.7, alpha_end, mean=0.5)))
    t = uniform()(n, g := seeded(3))
    x_t = truth.process.perturb(x, t, torch.randn(x.shape, generator=g, **F64))
    gap = other - least - (0.1 * x_t.sin()).square().mean(1)
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / math.sqrt(n)
    assert float(other.mean()) > float(least.mean())


@pytest.mark.parametrize("parametrization", ["noise", "clean", "velocity"])
def test_a_denoiser_of_the_interpolant_has_the_same_velocity(parametrization):
    """u = noise - x_0 by any parametrization of the network, and so the loss too."""
    model, x, t = Denoiser(Sine(), Interpolant(), parametrization), randn(5, 2), torch.full((5,), 0.3, **F64)
    torch.testing.assert_close(model.velocity(x, t), model.noise(x, t) - model.denoise(x, t), rtol=1e-10, atol=1e-10)
    assert torch.isfinite(FlowMatching(constant(0.3))(model, x, seeded())).all()


@pytest.mark.parametrize("shape", [(2,), (1, 3, 3)])
@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_the_optimal_coupling_costs_the_least_of_all_permutations(n, shape):
    x, z = randn(n, *shape, seed=n), randn(n, *shape, seed=n + 50)

    def cost(order):
        return float((x - z[list(order)]).square().sum())

    partners = optimal_partners(x, z)
    assert cost(partners.tolist()) == pytest.approx(min(map(cost, itertools.permutations(range(n)))), rel=1e-12)


def test_the_optimal_coupling_keeps_both_marginals_and_shortens_the_lines():
    x, z = 3 + 0.5 * randn(64, 2, seed=1), randn(64, 2, seed=2)
    partners = optimal_partners(x, z)
    assert sorted(partners.tolist()) == list(range(64))
    # The least cost is at most that of any other pairing, and of means 3 apart at least 2 * 9 less what they vary.
    assert (x - z[partners]).square().sum() < (x - z).square().sum()
    x = z[torch.randperm(64, generator=seeded(3))]
    assert torch.equal(z[optimal_partners(x, z)], x), "data that are the noise itself get themselves"


def test_logit_normal_times_are_logit_normal(n=40_000):
    """P(t <= s) = Phi((logit s - mean) / std), in every quartile."""
    t = logit_normal(0.4, 1.3)(n, seeded())
    assert t.dtype == torch.float64 and float(t.min()) > 0 and float(t.max()) < 1
    normal = torch.distributions.Normal(0.0, 1.0)
    for s in (0.1, 0.3, 0.5, 0.8):
        share = float(normal.cdf((torch.logit(torch.tensor(s)) - 0.4) / 1.3))
        assert abs(float((t <= s).double().mean()) - share) < 4 * math.sqrt(share * (1 - share) / n)


@pytest.mark.parametrize("process", [VP(), Clean()])
def test_a_process_without_finite_rates_is_refused(process):
    class Noise(GaussianVelocity):
        def __init__(self):
            super().__init__()
            self.process = process

    with pytest.raises(ValueError, match=f"FlowMatching.*{type(process).__name__}.*Interpolant"):
        FlowMatching(uniform()).check(Noise())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: FlowMatching(uniform(), "optimum"), "coupling.*optimum.*independent, optimal"),
        (lambda: logit_normal(0.0, 0.0), "std.*0.0"),
        (lambda: Interpolant(1.0), "alpha_end.*1.0"),
        (lambda: Interpolant(-0.1), "alpha_end.*-0.1"),
    ],
)
def test_what_cannot_be_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()

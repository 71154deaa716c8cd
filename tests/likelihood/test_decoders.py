"""Annealed importance sampling of decoders, against linear ones, whose p(x) is a known Gaussian."""

import pytest
import torch
from torch import nn

from lightning_gen.likelihood import DecoderAIS
from lightning_gen.models import RBM, GaussianObservation, Generator
from lightning_gen.samplers import HMC, MALA
from tests.likelihood.linear import F64, linear, rows


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Affine(nn.Module):
    """G(z, label) = W z + b[label]."""

    latent = 2

    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.tensor([[1.0, 0.3], [-0.5, 1.2], [0.2, 0.4]], **F64))
        self.b = nn.Parameter(torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 0.5]], **F64))

    def forward(self, z, label):
        return z @ self.W.T + self.b[label]


def exact_posterior(model, x, chains):
    """Independent z ~ p(z|x) for each chain, (B chains, L): of a linear model the encoder's."""
    mean, log_variance = (part.repeat_interleave(chains, 0) for part in model.posterior(x))
    return model.sample_posterior(mean, log_variance, seeded(3)).detach()


WAYS = [(HMC(1, 0.1, 2), 100), pytest.param(MALA(1, 0.1), 200, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("transition", "schedule"), WAYS)
def test_a_linear_decoder_has_its_density_from_both_sides(transition, schedule):
    """The gate of the specification: within 4 s.e. and 0.05 nats, the s.e. at most 0.0125."""
    model, log_density = linear(s=1.0)
    x, chains = rows(2), 1000
    ais = DecoderAIS(chains, schedule, transition)
    path = ais.path(model, x, seeded())
    for start in (None, exact_posterior(model, x, chains)):
        found = ais.estimate(path, seeded(1), start)
        gap = (found.nats - log_density(x)).abs()
        assert found.error.max() <= 0.0125
        assert (gap < 4 * found.error).all() and gap.max() < 0.05
        assert (found.ess > 0.8 * chains).all() and found.ess.max() <= chains
    assert 0.4 < path.acceptance() < 0.9


def test_a_short_path_bounds_simulated_data_from_both_sides():
    """Forward below and reverse above, from the z that x was made of; and the mean weight is p(x)."""
    model, log_density = linear()
    x, z = model.simulate(1500, seeded())
    ais = DecoderAIS(chains=1, schedule=5, transition=HMC(1, 0.2, 2), tune=False)
    path, true = ais.path(model, x, seeded()), log_density(x)
    for start, sign in ((None, 1), (z, -1)):
        found = ais.estimate(path, seeded(1), start)
        gap = sign * (true - found.nats)
        assert gap.mean() > 4 * gap.std() / 1500**0.5
        w = (-gap).exp()
        assert abs(w.mean() - 1) < 4 * w.std() / 1500**0.5


def test_simulated_data_have_the_models_law():
    model, _ = linear()
    x, z = model.simulate(20_000, seeded())
    assert z.shape == (20_000, 3)
    joint = torch.cat([z, x], 1)
    W = model.net.W.detach()
    size = torch.eye(5, **F64) * model.deviation**2 + W @ W.T
    covariance = torch.cat([torch.cat([torch.eye(3, **F64), W.T], 1), torch.cat([W, size], 1)])
    torch.testing.assert_close(joint.T.cov(), covariance, rtol=0, atol=0.1)
    torch.testing.assert_close(x.mean(0), model.net.m.detach(), rtol=0, atol=0.06)


def test_a_generator_has_the_density_of_its_observations():
    """N(b, W W^T + s^2 I) of each label, every chain with the label of its x."""
    net, s = Affine(), 0.9
    x = torch.tensor([[0.5, 0.0, -1.0], [0.5, 0.0, -1.0], [2.0, 1.0, 0.0]], **F64)
    label = torch.tensor([0, 1, 1])
    model = GaussianObservation(Generator(net), s).with_label(label)
    covariance = (net.W @ net.W.T + s**2 * torch.eye(3, **F64)).detach()
    true = torch.distributions.MultivariateNormal(net.b[label].detach(), covariance).log_prob(x)
    ais = DecoderAIS(chains=1000, schedule=60, transition=HMC(1, 0.1, 2))
    found = ais.estimate(ais.path(model, x, seeded()), seeded(1))
    assert ((found.nats - true).abs() < 4 * found.error).all() and found.error.max() < 0.0125


def test_progress_counts_every_proposal():
    model, calls = linear()[0], []
    ais = DecoderAIS(chains=2, schedule=7, transition=MALA(1, 0.1))
    path = ais.path(model, rows(2), seeded(), lambda: calls.append(1))
    ais.estimate(path, seeded(), progress=lambda: calls.append(1))
    assert len(calls) == ais.ticks(1)
    assert DecoderAIS(2, 1).ticks(3) == 3


def test_what_has_no_density_is_refused():
    for model in (RBM(2, 3), Generator(Affine())):
        with pytest.raises(TypeError, match=f"DecoderAIS.*{type(model).__name__}"):
            DecoderAIS().path(model, rows(2), seeded())
    with pytest.raises(ValueError, match="temperature.*2"):
        DecoderAIS(transition=HMC(1, 0.1, temperature=2.0))
    with pytest.raises(ValueError, match="deviation.*0"):
        GaussianObservation(Generator(Affine()), 0.0)

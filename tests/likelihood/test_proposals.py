"""Importance sampling by each proposal, on linear decoders, whose p(x) is known."""

import math

import pytest
import torch

from lightning_gen.likelihood import EncoderProposal, FlowProposal, PriorProposal
from lightning_gen.likelihood.importance import bounds, log_weights
from lightning_gen.models import GaussianObservation, Generator
from tests.likelihood.linear import F64, linear, rows
from tests.likelihood.test_decoders import Affine

SHORT = {"steps": 60, "batch": 200, "lr": 1e-2, "width": 8, "couplings": 2}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def off():
    """A model whose encoder is off and too narrow, log p, and the proposals for it."""
    model, log_density = linear(s=1.0, off=0.3, wide=0.6)
    return model, log_density, [PriorProposal(), EncoderProposal(), FlowProposal(**SHORT).fit(model, seeded())]


def test_every_proposal_is_a_density(off):
    """E_q[r(z) / q(z)] = 1 for a density r that q covers: of z about one x."""
    model, _, proposals = off
    x, n = rows(1).expand(40_000, 5), 40_000
    mean, log_variance = (part.detach() for part in linear(s=1.0, off=0.3, wide=0.6)[0].posterior(x))
    for proposal in proposals:
        with torch.no_grad():
            z, log_q = proposal.draw(model, x, seeded(2), *proposal.statistics(model, x))
        narrow = torch.distributions.Normal(mean, 0.8 * (0.5 * log_variance).exp())  # covered by every q
        ratio = (narrow.log_prob(z).sum(1) - log_q).exp()
        assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / math.sqrt(n) < 0.1


def test_every_proposal_gives_p_without_bias(off):
    model, log_density, proposals = off
    x = rows(3)
    for proposal in proposals:
        log_w = log_weights(model, x, 20_000, seeded(1), proposal=proposal)
        ratio = (log_w - log_density(x)[:, None]).exp()
        assert ((ratio.mean(1) - 1).abs() < 4 * ratio.std(1) / math.sqrt(20_000)).all(), proposal.method


def test_a_learned_flow_mends_the_encoder_and_the_prior_fails_as_the_posterior_narrows(off):
    model, _, (prior, encoder, flow) = off
    x = model.simulate(100, seeded(3))[0]
    share = [bounds(log_weights(model, x, 500, seeded(4), proposal=q)).ess.mean() / 500 for q in (prior, encoder, flow)]
    assert share[2] > 0.8 and share[2] > share[1] + 0.2
    narrow = linear(s=0.1)[0]
    x = narrow.simulate(100, seeded(3))[0]
    assert bounds(log_weights(narrow, x, 500, seeded(4), proposal=prior)).ess.mean() / 500 < 0.05 < share[0]


def test_a_fit_is_repeated_by_its_seed_and_moves_no_other_random_number(off):
    model, *_ = off
    torch.manual_seed(1)
    before, calls = torch.get_rng_state(), []
    options = {**SHORT, "steps": 3}
    first, again = (FlowProposal(**options).fit(model, seeded(5), lambda: calls.append(1)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before) and len(calls) == 2 * first.ticks() == 6
    for one, other in zip(first.flow.parameters(), again.flow.parameters(), strict=True):
        assert torch.equal(one, other) and one.dtype == torch.float64


def test_a_generators_labels_go_with_their_draws():
    net, x = Affine(), torch.tensor([[0.5, 0.0, -1.0], [0.5, 0.0, -1.0]], **F64)
    model = GaussianObservation(Generator(net), 1.0).with_label(torch.tensor([0, 1]))
    covariance = (net.W @ net.W.T + torch.eye(3, **F64)).detach()
    true = torch.distributions.MultivariateNormal(net.b.detach(), covariance).log_prob(x)
    found = bounds(log_weights(model, x, 20_000, seeded(), proposal=PriorProposal()))
    torch.testing.assert_close(found.iwae, true, rtol=0, atol=0.05)


def test_what_does_not_fit_is_refused():
    observed = GaussianObservation(Generator(Affine()), 1.0)
    for proposal in (EncoderProposal(), FlowProposal()):
        with pytest.raises(TypeError, match=f"{type(proposal).__name__} needs an encoder.*PriorProposal"):
            log_weights(observed, rows(2)[:, :3], 2, proposal=proposal)
    with pytest.raises(ValueError, match="fit"):
        log_weights(linear()[0], rows(2), 2, proposal=FlowProposal())
    with pytest.raises(ValueError, match="steps.*0"):
        FlowProposal(steps=0)

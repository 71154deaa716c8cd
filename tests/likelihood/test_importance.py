"""Importance sampling on a linear Gaussian model, whose log p(x) is known."""

import math

import pytest
import torch

from lightning_gen.likelihood.importance import bounds, draws_per_pass, log_weights
from lightning_gen.losses import ELBO, IWAE
from tests.likelihood.linear import linear, rows


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_at_the_exact_posterior_every_weight_is_p():
    model, log_density = linear()
    x = rows(20)
    log_w = log_weights(model, x, 7, seeded())
    torch.testing.assert_close(log_w, log_density(x)[:, None].expand(20, 7))
    result = bounds(log_w)
    torch.testing.assert_close(result.iwae, log_density(x))
    torch.testing.assert_close(result.elbo, log_density(x))
    torch.testing.assert_close(result.ess, torch.full((20,), 7.0, dtype=torch.float64))


def test_the_mean_weight_is_unbiased_for_p():
    model, log_density = linear(off=0.2, wide=1.3)
    x = rows(4)
    ratio = (log_weights(model, x, 100_000, seeded()) - log_density(x)[:, None]).exp()
    assert ((ratio.mean(1) - 1).abs() < 4 * ratio.std(1) / math.sqrt(100_000)).all()
    assert ratio.std() > 0.1, "the encoder should be off"


def test_the_bound_rises_with_the_draws_to_log_p_and_never_above():
    model, log_density = linear(off=0.3, wide=0.8)
    x = rows(2000, seed=5)
    log_w, true = log_weights(model, x, 256, seeded()), log_density(x)
    values = [log_w.mean(1), *(bounds(log_w[:, :k]).iwae for k in (4, 32, 256))]
    for low, high in zip(values, values[1:], strict=False):
        rise = high - low
        assert rise.mean() > 4 * rise.std() / math.sqrt(2000)
    gap = true - values[-1]
    assert -4 * gap.std() / math.sqrt(2000) < gap.mean() < 0.02
    # log p - ELBO is KL(q || posterior): here with every mean off by 0.3 and every variance times 0.8
    variance = 1 / (1 + (model.net.W.detach() ** 2).sum(0) / model.net.s**2)
    kl = 0.5 * (0.8 + 0.09 / variance - 1 - math.log(0.8)).sum()
    gap = true - bounds(log_w).elbo
    assert abs(gap.mean() - kl) < 4 * gap.std() / math.sqrt(2000)


def test_the_effective_sample_size_by_hand():
    result = bounds(torch.tensor([[0.0, 0.0, 0.0], [0.0, -1e3, -1e3], [math.log(3), 0.0, -1e3]], dtype=torch.float64))
    assert result.ess.tolist() == pytest.approx([3, 1, 16 / 10])
    assert result.iwae.tolist() == pytest.approx([0, -math.log(3), math.log(4 / 3)])


def test_the_losses_are_the_bounds():
    model, log_density = linear(off=0.3, wide=0.8)
    x = rows(2000)
    with torch.no_grad():
        true = log_density(x)
        exact = ELBO()(linear()[0], x, seeded())
        assert abs(float((exact - -true).mean())) < 4 * float((exact + true).std()) / math.sqrt(2000)
        one = IWAE(1)(model, x, seeded())
        torch.testing.assert_close(one, -log_weights(model, x, 1, seeded())[:, 0])
        many = IWAE(50)(model, x, seeded())
        assert float((one - many).mean()) > 0.1 and -0.02 < float((many + true).mean()) < 0.05
        mean, log_variance = model.posterior(x)
        more = ELBO(beta=3.0)(model, x, seeded()) - ELBO()(model, x, seeded())
        torch.testing.assert_close(more, 2 * model.kl(mean, log_variance))
        noise = [ELBO(samples=k)(model, x, seeded()).var() for k in (1, 8)]
        assert noise[1] < noise[0]


def test_draws_are_made_in_portions_and_the_encoder_is_called_once():
    model, _ = linear()
    ticks = []
    model.net.calls.clear()
    assert log_weights(model, rows(4), 10, seeded(), together=12, progress=lambda: ticks.append(1)).shape == (4, 10)
    assert model.net.calls == [12, 12, 12, 4] and len(ticks) == 4
    assert draws_per_pass(10, 4, 12) == [3, 3, 3, 1] and draws_per_pass(2, 50, 12) == [1, 1]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ELBO(beta=-1.0), "beta.*-1.0"),
        (lambda: IWAE(0), "samples.*0"),
        (lambda: log_weights(linear()[0], rows(2), 0), "samples.*0"),
    ],
)
def test_what_cannot_be_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()

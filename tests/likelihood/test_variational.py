"""The variational bound: a normalised decoder, exact divergences, and never below the truth."""

import math

import pytest
import torch

from lightning_gen.likelihood.variational import decoder_deviation, decoder_nats, variational_bound
from lightning_gen.models import Scored
from lightning_gen.process import VP, DiscreteVP, linear_betas

F64 = {"dtype": torch.float64}


class Levels(Scored):
    """The exact model of data uniform on the 256 levels in [-1, 1]: E[x_0 | x_t] by Bayes' rule."""

    def denoise(self, x, t):
        levels = torch.linspace(-1, 1, 256, **F64)
        alpha, variance = (c.reshape(-1, 1, 1) for c in (self.process.alpha(t), self.process.variance(t)))
        weight = torch.softmax(-((x[..., None] - alpha * levels) ** 2) / (2 * variance), -1)
        return (weight * levels).sum(-1)


class Constant(Scored):
    """Answers with the same clean data always, also outside the data's range."""

    def __init__(self, process, value):
        super().__init__(process)
        self.value = value

    def denoise(self, x, t):
        return torch.full_like(x, self.value)


@pytest.mark.parametrize("mean", [-3.0, -1.0, -0.3, 0.9, 1.0, 40.0])
@pytest.mark.parametrize("sigma", [0.003, 0.05, 2.0])
def test_the_decoder_is_a_probability_over_256_values(mean, sigma):
    values = torch.arange(256, **F64) / 255 * 2 - 1
    nats = decoder_nats(values, torch.full_like(values, mean), sigma, (-1.0, 1.0))
    assert torch.isfinite(nats).all()
    assert float(torch.logsumexp(-nats, 0)) == pytest.approx(0, abs=1e-9)


def test_the_decoder_takes_the_datas_range():
    values = torch.arange(256, **F64) / 255
    nats = decoder_nats(values, torch.full_like(values, 0.4), 0.05, (0.0, 1.0))
    assert float(torch.logsumexp(-nats, 0)) == pytest.approx(0, abs=1e-9)
    assert int(nats.argmin()) == round(0.4 * 255)


@pytest.mark.parametrize(("variance", "gap"), [("large", 0.15), ("small", 1.2)])
def test_uniform_data_costs_eight_bits_and_the_bound_stays_above(variance, gap):
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (128, 8), generator=g) / torch.tensor(255.0, **F64) * 2 - 1
    bits = variational_bound(Levels(DiscreteVP(linear_betas(400))), x, g, variance=variance).sum(1)
    error = float(bits.std()) / len(x) ** 0.5
    assert float(bits.mean()) > 8 - 4 * error
    assert float(bits.mean()) < 8 + gap


@pytest.mark.parametrize("convention", ["paper", "code"])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_every_term_is_the_divergence_that_it_is_named_for(variance, convention):
    """Against torch.distributions, with posteriors from Bayes' rule written by betas; the model's x_0 is 1.7."""
    betas, value = linear_betas(6, 0.05, 0.4), 1.7
    process, x = DiscreteVP(betas), torch.tensor([[0.2, -0.6]], **F64)
    model, seed = Constant(process, value), torch.Generator().manual_seed(1)
    terms = variational_bound(model, x, seed, variance=variance, convention=convention)
    value = 1.0 if convention == "code" else value
    assert terms.shape == (1, 7)
    normal, kl = torch.distributions.Normal, torch.distributions.kl_divergence
    bar = torch.cumprod(1 - torch.tensor(betas, **F64), 0)
    prior = kl(normal(bar[-1].sqrt() * x, (1 - bar[-1]).sqrt()), normal(0.0, 1.0))
    assert float(terms[0, -1]) == pytest.approx(float(prior.mean()) / math.log(2), rel=1e-9)
    draws = torch.Generator().manual_seed(1)
    for k in range(6, 1, -1):
        noise = torch.randn(x.shape, generator=draws, **F64)
        beta, now, before = betas[k - 1], bar[k - 1], bar[k - 2]
        noised = now.sqrt() * x + (1 - now).sqrt() * noise

        def mean(clean, noised=noised, beta=beta, now=now, before=before):
            return (before.sqrt() * beta * clean + (1 - beta) ** 0.5 * (1 - before) * noised) / (1 - now)

        true = math.sqrt(beta * (1 - before) / (1 - now))
        model = true if variance == "small" else math.sqrt(beta)
        divergence = kl(normal(mean(x), true), normal(mean(torch.full_like(x, value)), model))
        assert float(terms[0, k - 1]) == pytest.approx(float(divergence.mean()) / math.log(2), rel=1e-8), k
    own = variance == "large" and convention == "paper"
    sigma = math.sqrt(betas[0]) if own else math.sqrt(betas[1] * (1 - bar[0]) / (1 - bar[1]))
    decoder = decoder_nats(x, torch.full_like(x, value), sigma, (-1.0, 1.0)).mean() / math.log(2)
    assert float(terms[0, 0]) == pytest.approx(float(decoder), rel=1e-9)


def test_the_codes_decoder_is_narrower_on_ddpms_betas():
    """By hand: beta_1 = 1e-4, beta_2 = 1e-4 + 0.0199 / 999; beta_2 beta_1 / (1 - (1 - beta_1)(1 - beta_2))."""
    process, b1, b2 = DiscreteVP(linear_betas(1000)), 1e-4, 1e-4 + 0.0199 / 999
    assert decoder_deviation(process) ** 2 == pytest.approx(b1, rel=1e-9)
    for variance in ("large", "small"):
        deviation = decoder_deviation(process, variance, "code")
        assert deviation**2 == pytest.approx(b2 * b1 / (b1 + b2 - b1 * b2), rel=1e-9)
        assert deviation**2 == pytest.approx(5.4531e-5, rel=1e-4)
    assert decoder_deviation(process, "small") == deviation


def test_the_code_clips_to_the_datas_range_and_both_bound_the_truth():
    process = DiscreteVP(linear_betas(200))
    x = torch.randint(0, 256, (64, 4), generator=torch.Generator().manual_seed(0)) / torch.tensor(255.0, **F64)
    for low, high in ((-1.0, 1.0), (0.0, 1.0)):
        bits = [
            variational_bound(
                Constant(process, value),
                low + (high - low) * x,
                torch.Generator().manual_seed(1),
                (low, high),
                convention="code",
            )
            for value in (5.0, high)
        ]
        torch.testing.assert_close(*bits)
    bits = variational_bound(Levels(process), 2 * x - 1, torch.Generator().manual_seed(2), convention="code").sum(1)
    error = float(bits.std()) / len(x) ** 0.5
    assert 8 - 4 * error < float(bits.mean()) < 8.3


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m, x, g: variational_bound(m, x, g, None, convention="code"), "code.*value_range"),
        (lambda m, x, g: variational_bound(m, x, g, variance="small"), "small.*2, got.*1 step.*large.*paper"),
        (lambda m, x, g: variational_bound(m, x, g, convention="code"), "code.*2, got.*1 step.*large.*paper"),
    ],
)
def test_a_bound_that_is_not_defined_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(Constant(DiscreteVP([0.5]), 0.0), torch.zeros(1, 2), torch.Generator())


def test_a_better_model_has_the_smaller_bound():
    process, g = DiscreteVP(linear_betas(100)), torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (64, 8), generator=g) / torch.tensor(255.0, **F64) * 2 - 1
    good = variational_bound(Levels(process), x, torch.Generator().manual_seed(1)).sum(1).mean()
    bad = variational_bound(Constant(process, 0.0), x, torch.Generator().manual_seed(1)).sum(1).mean()
    assert good < bad


def test_a_continuous_process_is_refused():
    with pytest.raises(ValueError, match="VP.*DiscreteVP"):
        variational_bound(Constant(VP(), 0.0), torch.zeros(1, 2), torch.Generator())


def test_the_decoders_bins_are_centred_on_their_values():
    values = torch.arange(256, **F64) / 255 * 2 - 1
    nats = decoder_nats(values, values[100].expand(256), 0.01, (-1.0, 1.0))
    torch.testing.assert_close(nats[101:201], nats[:100].flip(0), rtol=1e-9, atol=0)
    cdf = torch.distributions.Normal(values[100], 0.01).cdf
    torch.testing.assert_close(nats[95:106], -(cdf(values + 1 / 255) - cdf(values - 1 / 255)).log()[95:106])

"""Dequantised 8-bit data: uniform under a uniform model it costs 8 bits, and no density beats its own probabilities."""

import math

import pytest
import torch

from lightning_gen.likelihood import bits_per_dim, dequantised
from lightning_gen.likelihood.dequantise import bins_protocol

F64 = {"dtype": torch.float64}


def encoded(k, value_range):
    low, high = value_range
    return low + (high - low) * k / 255


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0), (-3.0, 7.0)])
def test_uniform_data_under_a_uniform_model_cost_eight_bits(value_range):
    """The density is uniform on the union of the bins, and zero, so refused here, outside of it."""
    k = torch.arange(256, **F64).repeat(100).view(-1, 1, 4, 4)
    x = dequantised(encoded(k, value_range), value_range, seeded())
    low, high = value_range
    half = (high - low) / 510
    nats = torch.distributions.Uniform(low - half, high + half, validate_args=True).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(bits_per_dim(nats, 16, value_range), torch.full_like(nats, 8.0))


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0)])
def test_the_noise_fills_its_bin_evenly_and_no_other(value_range):
    k = torch.arange(256, **F64).repeat(400)
    low, high = value_range
    offset = (dequantised(encoded(k, value_range), value_range, seeded()) - low) / (high - low) * 255 - k
    assert offset.abs().max() <= 0.5 + 1e-9
    n = len(offset)
    assert abs(float(offset.mean()) * math.sqrt(12 * n)) < 4
    assert abs(float(offset.square().mean() - 1 / 12) * math.sqrt(180 * n)) < 4


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0), (-3.0, 7.0)])
def test_bins_within_are_256ths_of_the_range(value_range):
    """Level k is evenly in [k, k + 1) / 256 of the range, as in Song et al.'s code; uniform data cost 8 bits."""
    k = torch.arange(256, **F64).repeat(400)
    low, high = value_range
    x = dequantised(encoded(k, value_range), value_range, seeded(), bins="within")
    u = (x - low) / (high - low) * 256 - k
    assert float(u.min()) >= -1e-9 and float(u.max()) <= 1 + 1e-9
    n = len(u)
    assert abs(float(u.mean() - 0.5) * math.sqrt(12 * n)) < 4
    assert abs(float((u - 0.5).square().mean() - 1 / 12) * math.sqrt(180 * n)) < 4
    nats = torch.full((3,), -16 * math.log(high - low), **F64)  # the density that is uniform on the range
    torch.testing.assert_close(bits_per_dim(nats, 16, value_range, bins="within"), torch.full_like(nats, 8.0))


@pytest.mark.parametrize(
    ("value_range", "levels", "bins", "width"),
    [
        ((-1.0, 1.0), 256, "centred", "2/255"),
        ((-1.0, 1.0), 256, "within", "2/256"),
        ((0.0, 1.0), 256, "within", "1/256"),
        ((-1.0, 1.0), 17, "centred", "2/16"),
        ((-0.4242, 2.8215), 256, "centred", "3.2457/255"),
    ],
)
def test_the_protocol_names_the_width_that_the_bits_count(value_range, levels, bins, width):
    protocol = bins_protocol(value_range, levels, bins)
    assert protocol == {"levels": levels, "bin_width": width}
    over, under = width.split("/")
    bits = bits_per_dim(torch.zeros(1, **F64), 1, value_range, levels, bins)  # -log2 of the width alone
    assert float(bits) == pytest.approx(-math.log2(float(over) / float(under)), rel=1e-4)


def test_the_noise_is_the_generators():
    x, drawn = torch.zeros(3, 2), seeded()
    first, second = (dequantised(x, (-1.0, 1.0), drawn) for _ in range(2))
    assert torch.equal(first, dequantised(x, (-1.0, 1.0), seeded())) and not torch.equal(first, second)


@pytest.mark.parametrize("sigma", [0.02, 0.004])
def test_the_mean_bounds_the_probability_of_the_value_from_above(sigma, n=40_000):
    """A narrower density varies more over a bin, and the bound is looser."""
    value_range, density = (-1.0, 1.0), torch.distributions.Normal(torch.tensor(0.1, **F64), sigma)
    x = encoded(torch.tensor(140.0, **F64), value_range)
    nats = density.log_prob(dequantised(x.expand(n), value_range, seeded()))
    bits = bits_per_dim(nats, 1, value_range)
    truth = -(density.cdf(x + 1 / 255) - density.cdf(x - 1 / 255)).log2()
    u = (torch.arange(100_001, **F64) / 100_000 - 0.5) * 2 / 255
    bound = -(density.log_prob(x + u).mean() + math.log(2 / 255)) / math.log(2)
    assert bound > truth
    assert abs(float((bits.mean() - bound) / (bits.std() / n**0.5))) < 4

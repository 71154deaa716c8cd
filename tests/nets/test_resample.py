"""Laws of the low-pass filter and of the layers that change an image's size."""

import math

import pytest
import torch
from torch import Tensor

from lightning_gen.nets.resample import Downsample, Fir, Grow, Shrink, Upsample

TAPS = [(1, 3, 3, 1), (1, 1), (1, 2, 1), (1, 2, 3, 2), (1, 5, 10, 10, 5, 1)]


def image(*shape: int) -> Tensor:
    """A fixed random image in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def wave(size: int, omega: float, phase: float = 0.3) -> Tensor:
    """cos(omega n + phase) along the width, (1, 1, size, size)."""
    return torch.cos(omega * torch.arange(size, dtype=torch.float64) + phase).expand(1, 1, size, size)


def direct(x: Tensor, taps: tuple, before: int, after: int) -> Tensor:
    """Every place of the padded rows and columns convolved with the taps, by the definition of a convolution."""
    w = [tap / sum(taps) for tap in taps]
    for dim in (2, 3):
        rows = list(x.unbind(dim))
        rows = [torch.zeros_like(rows[0])] * before + rows + [torch.zeros_like(rows[0])] * after
        ends = range(len(w) - 1, len(rows))
        x = torch.stack([sum(w[a] * rows[n - a] for a in range(len(w))) for n in ends], dim)
    return x


@pytest.mark.parametrize("taps", TAPS, ids=str)
def test_a_constant_image_stays_constant_away_from_its_edge(taps):
    ones, edge = torch.ones(1, 2, 16, 16), len(taps)
    for y in (Shrink(taps)(ones), Grow(taps)(ones)):
        inner = y[..., edge:-edge, edge:-edge] if y.shape[-1] > 2 * edge else y[..., 3:-3, 3:-3]
        assert inner.numel() > 0
        torch.testing.assert_close(inner, torch.ones_like(inner))


@pytest.mark.parametrize("taps", TAPS, ids=str)
def test_it_is_the_convolution_placed_as_in_stylegan2(taps):
    x, k = image(2, 3, 6, 8), len(taps)
    p = k - 2
    down = direct(x, taps, (p + 1) // 2, p // 2)[..., ::2, ::2]
    torch.testing.assert_close(Shrink(taps).double()(x), down)
    zeros = torch.zeros(2, 3, 12, 16, dtype=torch.float64)
    zeros[..., ::2, ::2] = x
    up = 4 * direct(zeros, taps, (p + 1) // 2 + 1, p // 2)
    torch.testing.assert_close(Grow(taps).double()(x), up)


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 1), (1, 5, 10, 10, 5, 1)], ids=str)
def test_going_up_is_four_times_the_adjoint_of_going_down(taps):
    fir, x, y = Fir(taps).double(), image(1, 2, 8, 10), image(1, 2, 4, 5)
    torch.testing.assert_close((fir.down(x) * y).sum(), (x * fir.up(y)).sum() / 4)


@pytest.mark.parametrize("omega", [0.2, 0.5, 1.0])
def test_a_slow_wave_survives_the_way_down_and_up(omega):
    """Half a sample's shift cancels; what is left are (cos w/2)^6 of the wave and an alias of (cos sin)^3."""
    x, fir = wave(64, omega), Fir((1, 3, 3, 1)).double()
    y = fir.up(fir.down(x))[..., 8:-8, 8:-8]
    x, c, s = x[..., 8:-8, 8:-8], math.cos(omega / 2), math.sin(omega / 2)
    error = (y - c**6 * x).abs().max()
    assert error <= (c * s) ** 3 * (1 + 1e-6)
    assert error >= 0.8 * (c * s) ** 3


@pytest.mark.parametrize("omega", [2.2, 2.5, 2.8])
def test_a_fast_wave_leaves_less_of_an_alias_than_means_or_nearest_places(omega):
    x = wave(64, omega)
    filtered, mean = Shrink((1, 3, 3, 1)).double()(x), Shrink()(x)
    inner = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    energy = [y[inner].square().mean().sqrt() for y in (filtered, mean, x[..., ::2, ::2])]
    assert energy[0] == pytest.approx(float(energy[2]) * math.cos(omega / 2) ** 3, rel=0.1)
    assert energy[0] < 0.25 * energy[1] < 0.25 * energy[2]


@pytest.mark.parametrize("fir", [None, (1, 3, 3, 1)], ids=str)
def test_a_shift_by_the_stride_is_a_shift_by_one(fir):
    x, inner = image(1, 2, 24, 24), (slice(None), slice(None), slice(4, -4), slice(4, -4))
    for layer in (Shrink(fir), Downsample(2, fir=fir)):
        layer = layer.double()
        moved, y = layer(x.roll((2, 4), (2, 3))), layer(x).roll((1, 2), (2, 3))
        torch.testing.assert_close(moved[inner], y[inner])
    for layer in (Grow(fir), Upsample(2, fir=fir)):
        layer = layer.double()
        moved, y = layer(x.roll((1, 2), (2, 3))), layer(x).roll((2, 4), (2, 3))
        wide = (slice(None), slice(None), slice(8, -8), slice(8, -8))
        torch.testing.assert_close(moved[wide], y[wide])


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 1)], ids=str)
def test_a_convolution_that_does_nothing_leaves_the_filter_alone(taps):
    x = image(2, 3, 8, 6)
    for layer, plain in ((Downsample(3, fir=taps), Shrink(taps)), (Upsample(3, fir=taps), Grow(taps))):
        layer, plain = layer.double(), plain.double()
        layer.conv.weight.data.zero_()
        for channel in range(3):
            layer.conv.weight.data[channel, channel, 1, 1] = 1.0
        torch.testing.assert_close(layer(x), plain(x))


def test_a_filter_has_no_weights_and_follows_device_and_dtype():
    layer = Grow((1, 3, 3, 1))
    assert layer.state_dict() == {} and list(layer.parameters()) == []
    assert layer.bfloat16()(torch.ones(1, 1, 4, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("taps", [(1,), (1, 1, 1), (1, -1), (1, 2)], ids=str)
def test_taps_that_would_stripe_an_even_surface_are_refused(taps):
    with pytest.raises(ValueError, match=r"fir.*\[1, 3, 3, 1\].*null"):
        Fir(taps)

"""The scalar energy network: differentiated twice, at most linear in its input, one number an image."""

import pytest
import torch

from lightning_gen.models import EnergyNetwork
from lightning_gen.models.energy import twice_differentiable
from lightning_gen.nets import MLP, ResNetEnergy, UNet
from lightning_gen.nets.layers import Attention, Residual


def points(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("spectral", [False, True])
def test_an_energy_may_be_differentiated_twice(spectral):
    torch.manual_seed(0)
    net = ResNetEnergy((1, 4, 4), 3, (1, 2), 1, spectral).double().eval()
    x = points(2, 1, 4, 4).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: net(x), (x,))


@pytest.mark.parametrize("spectral", [False, True])
def test_it_grows_at_most_linearly(spectral):
    """f(s x) / s settles, and not at nothing."""
    torch.manual_seed(0)
    net, x = ResNetEnergy((1, 8, 8), 8, (1, 2, 2), 1, spectral).double().eval(), points(5, 1, 8, 8)
    far = [(net(scale * x) / scale).detach() for scale in (1e3, 1e6)]
    torch.testing.assert_close(far[0], far[1], rtol=0.02, atol=1e-3)
    assert far[1].abs().max() > 1e-3
    assert net.growth == "linear"
    assert EnergyNetwork(net, readout="scalar", confine=3.0).why_unnormalisable() is None


def test_in_two_dimensions_the_confined_density_has_an_integral_and_the_bare_one_none():
    """By quadrature over squares: the mass outside of 20 confining lengths is nothing; without one it takes all."""
    torch.manual_seed(1)
    net = ResNetEnergy((1, 1, 2), 4, (1,), 1).double().eval()
    for parameter in net.parameters():
        parameter.data *= 1.5
    mass = {}
    for confine in (1.0, None):
        model = EnergyNetwork(net, readout="scalar", confine=confine)
        for width in (20.0, 40.0):
            axis = torch.linspace(-width, width, 401, dtype=torch.float64)
            places = torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)
            with torch.no_grad():
                log_density = torch.cat([-model.energy(part) for part in places.split(40401)])
            mass[confine, width] = float(torch.logsumexp(log_density, 0) + 2 * torch.log(axis[1] - axis[0]))
    assert mass[1.0, 40.0] == pytest.approx(mass[1.0, 20.0], abs=1e-3)
    assert mass[None, 40.0] > mass[None, 20.0] + 1


@pytest.mark.parametrize("stride", [1, 2])
def test_the_energy_is_the_residual_network_that_is_written_down(stride):
    """One level, one block, by hand: h = conv(x), h + conv(silu(conv(silu(h)))), silu, sum over pixels, a number."""
    torch.manual_seed(0)
    net, x = ResNetEnergy((2, 5, 6), 3, (1,), 1, stride=stride).double(), points(4, 2, 5, 6)
    (one, two, skip), silu = net.levels[0][0], torch.nn.functional.silu
    assert isinstance(skip, torch.nn.Identity)
    conv = lambda h, layer: torch.nn.functional.conv2d(h, layer.weight, layer.bias, padding=1)  # noqa: E731
    assert net.first.weight.shape == (3, 2, 2 * stride + 1, 2 * stride + 1)
    padded = torch.nn.functional.pad(x, [stride] * 4)  # a strided convolution is every stride-th place of the whole one
    h = torch.nn.functional.conv2d(padded, net.first.weight, net.first.bias)[:, :, ::stride, ::stride]
    h = h + conv(silu(conv(silu(h), one)), two)
    goal = silu(h).sum((2, 3)) @ net.last.weight[0] + net.last.bias
    torch.testing.assert_close(net(x), goal)
    assert not any(layer.bias.any() for layer in (net.first, one, two, net.last))


def test_between_levels_four_pixels_become_their_mean():
    """By the net of the lower level alone, whose first convolution passes on what it is given."""
    torch.manual_seed(0)
    net, x = ResNetEnergy((1, 6, 6), 3, (1, 1), 1).double(), points(4, 1, 6, 6)
    (one, two, _), silu = net.levels[0][0], torch.nn.functional.silu
    h = net.first(x)
    h = h + two(silu(one(silu(h))))
    lower = ResNetEnergy((3, 3, 3), 3, (1,), 1).double()
    lower.levels, lower.last, lower.first = net.levels[1:], net.last, torch.nn.Identity()
    means = h.view(4, 3, 3, 2, 3, 2).mean((3, 5))
    torch.testing.assert_close(net(x), lower(means))


def test_a_unets_output_is_bounded_and_an_mlps_is_not_known_to_be():
    net = UNet((1, 4, 4), 8, (1, 2), 1, (2,), 0.0, 4).double().eval()
    for parameter in net.parameters():
        parameter.data = 0.3 * points(*parameter.shape)
    x = points(5, 1, 4, 4)
    near, far = (net(scale * x, torch.zeros(5)).abs().max().detach() for scale in (1e2, 1e8))
    assert float(far) < 10 * float(near)
    assert EnergyNetwork(net, readout="product", confine=3.0).why_unnormalisable() is None
    assert EnergyNetwork(MLP((2,), 8, 1), readout="product", confine=3.0).why_unnormalisable()


def test_images_do_not_look_at_each_other():
    torch.manual_seed(0)
    net, x = ResNetEnergy((3, 8, 8), 4, (1, 2), 2).eval(), torch.randn(4, 3, 8, 8)
    assert net(x).shape == (4,)
    torch.testing.assert_close(net(x)[1:2], net(x[1:2]))


def test_spectral_norm_bounds_every_layer():
    torch.manual_seed(0)
    net = ResNetEnergy((1, 8, 8), 8, (1, 2), 1, spectral=True)
    for _ in range(50):
        net(torch.randn(2, 1, 8, 8))
    net.eval()
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            assert float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"shape": (2,)}, r"shape is \(2,\)"),
        ({"channels": 0}, "channels is 0"),
        ({"multipliers": ()}, r"multipliers is \(\)"),
        ({"stride": 0}, "stride is 0"),
        ({"multipliers": (1, 2, 2, 2, 2)}, r"net\.multipliers has 5 levels at stride 1.*8x8"),
        ({"multipliers": (1, 2, 2), "stride": 4}, r"net\.multipliers has 3 levels at stride 4.*8x8"),
    ],
)
def test_what_cannot_be_is_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        ResNetEnergy(**{"shape": (1, 8, 8), "channels": 4, "multipliers": (1, 2), "blocks": 1, **wrong})


@pytest.mark.parametrize("block", ["residual", "attention"])
def test_the_blocks_of_a_unets_energy_may_be_differentiated_twice(block):
    torch.manual_seed(0)
    x = points(1, 4, 2, 2).requires_grad_()
    if block == "attention":
        made = Attention(4, lambda channels: torch.nn.GroupNorm(2, channels)).double().eval()
        call = made
    else:
        made = Residual(4, 4, 6, 0.0, lambda channels: torch.nn.GroupNorm(2, channels), False).double().eval()
        call = lambda x: made(x, points(1, 6))  # noqa: E731
    for parameter in made.parameters():
        parameter.data = 0.5 * points(*parameter.shape)
    with twice_differentiable():
        assert torch.autograd.gradgradcheck(lambda x: call(x), (x,))

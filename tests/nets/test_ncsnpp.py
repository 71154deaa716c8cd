"""Laws of NCSN++ and DDPM++: the published sizes, what each option does, and derivatives of every order."""

import math
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_gen.nets import NCSNpp
from lightning_gen.nets.layers import Attention, Embedding, Residual, residual_sum
from lightning_gen.nets.resample import Downsample, Grow, Shrink, Upsample

from .test_unet import batch, distance, spread

SMALL = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "dropout": 0.0}
DDPMPP = {"embedding": "positional", "fir": None, "progressive_input": "none"}
CHOICES = {
    "block": ("biggan", "ddpm"),
    "fir": (None, (1, 3, 3, 1)),
    "progressive": ("none", "output_skip"),
    "progressive_input": ("none", "residual"),
}
ALL = [dict(zip(CHOICES, values, strict=True)) for values in product(*CHOICES.values())]
for number, options in enumerate(ALL):  # the other options alternate, so that every pair of values occurs
    options |= {"embedding": ("fourier", "positional")[number % 2], "rescale": number % 3 > 0}


def name(options: dict) -> str:
    """A short name of a choice."""
    return "-".join(str(value) if not isinstance(value, tuple) else "fir" for value in options.values())


@pytest.mark.parametrize(
    ("settings", "count", "published"),
    [
        ({}, 62_758_787, 62.8),
        ({"blocks": 8}, 107_586_947, 107.6),
        (DDPMPP, 61_804_419, 61.8),
        (DDPMPP | {"blocks": 8}, 106_632_579, 106.6),
    ],
    ids=["ncsnpp", "ncsnpp-deep", "ddpmpp", "ddpmpp-deep"],
)
def test_the_cifar_networks_have_the_published_size(settings, count, published):
    with torch.device("meta"):
        found = sum(p.numel() for p in NCSNpp((3, 32, 32), **settings).parameters())
    assert found == count
    assert round(found / 1e6, 1) == published


@pytest.mark.parametrize("options", ALL, ids=name)
def test_every_choice_knows_each_image_alone_and_learns_with_every_parameter(options):
    shape = (2, 8, 12)
    net = spread(NCSNpp(shape, classes=3, **SMALL, **options))
    x, _ = batch(shape, n=3)
    t, label = torch.tensor([-1.0, 0.2, 1.3]), torch.tensor([0, 1, 2])
    y = net(x, t, label)
    assert y.shape == x.shape
    with torch.no_grad():
        alone = torch.cat([net(x[i : i + 1], t[i : i + 1], label[i : i + 1]) for i in range(3)])
        assert distance(y.detach(), alone) < 1e-5
        assert distance(net(x, t + 0.3, label), alone) > 1e-4
        assert distance(net(x, t, label.flip(0))[:1], alone[:1]) > 1e-4
    y.square().mean().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


@pytest.mark.parametrize("options", ALL, ids=name)
def test_second_derivatives_exist(options):
    net = spread(NCSNpp((1, 4, 4), **SMALL | {"attention": (2,)}, **options)).double()
    x, t = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64), torch.rand(2)
    x.requires_grad_()
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def slope(x):
        (gradient,) = torch.autograd.grad(net(x, t.double()).square().sum(), x, create_graph=True)
        return (gradient * direction).sum()

    with sdpa_kernel(SDPBackend.MATH):
        (second,) = torch.autograd.grad(slope(x), x)
        step = 1e-4
        numeric = (slope(x + step * direction) - slope(x - step * direction)) / (2 * step)
    torch.testing.assert_close((second * direction).sum(), numeric.detach(), rtol=1e-5, atol=1e-7)


BLOCKS = {
    "residual": lambda norm: Residual(4, 6, 3, 0.0, norm, attention=False, rescale=True),
    "attention": lambda norm: Residual(4, 4, 3, 0.0, norm, attention=True),
    "biggan-down": lambda norm: Residual(4, 4, 3, 0.0, norm, attention=False, resample=Shrink((1, 3, 3, 1))),
    "biggan-up": lambda norm: Residual(4, 4, 3, 0.0, norm, attention=False, resample=Grow((1, 3, 3, 1))),
    "downsample": lambda norm: Downsample(4, 3, (1, 3, 3, 1)),
    "upsample": lambda norm: Upsample(4, (1, 3, 3, 1)),
}


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_that_an_energy_may_use_has_right_first_and_second_derivatives(block):
    layer = spread(BLOCKS[block](lambda channels: nn.GroupNorm(2, channels))).double()
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, 2, 2, generator=g, dtype=torch.float64, requires_grad=True)
    e = torch.randn(1, 3, generator=g, dtype=torch.float64, requires_grad=True)
    inputs = (x, e) if isinstance(layer, Residual) else (x,)
    with sdpa_kernel(SDPBackend.MATH):
        assert torch.autograd.gradcheck(layer, inputs)
        assert torch.autograd.gradgradcheck(layer, inputs)


def test_rescaling_keeps_the_variance_of_independent_terms():
    x, h = torch.randn(2, 200_000, generator=torch.Generator().manual_seed(0))
    assert residual_sum(x, h, True).var() == pytest.approx(1, abs=0.02)
    assert residual_sum(x, h, False).var() == pytest.approx(2, abs=0.04)


def test_fourier_features_are_those_of_the_paper_and_are_not_trained():
    torch.manual_seed(0)
    layer = Embedding(2000, 8, scale=16.0)
    assert layer.frequencies.std() == pytest.approx(16, rel=0.1)
    assert "frequencies" in layer.state_dict() and "frequencies" not in dict(layer.named_parameters())
    seen = []
    layer.first.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    t = torch.tensor([math.log(0.01), math.log(50.0)])
    layer(t)
    angle = 2 * math.pi * layer.frequencies.double() * t.double()[:, None]
    torch.testing.assert_close(seen[0].double(), torch.cat([angle.sin(), angle.cos()], 1), rtol=0, atol=1e-3)


def test_two_networks_of_one_seed_have_the_same_frequencies_and_two_seeds_do_not():
    def frequencies(seed):
        torch.manual_seed(seed)
        return NCSNpp((1, 8, 8), **SMALL).embedding.frequencies

    assert torch.equal(frequencies(0), frequencies(0))
    assert not torch.equal(frequencies(0), frequencies(1))


def test_recentring_shows_the_network_images_of_zero_to_one_as_minus_one_to_one():
    net, centred = NCSNpp((1, 8, 8), recentre=True, **SMALL), NCSNpp((1, 8, 8), **SMALL)
    centred.load_state_dict(spread(net).state_dict())
    x, t = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(3)
    with torch.no_grad():
        torch.testing.assert_close(net(x, t), centred(2 * x - 1, t))
        assert distance(net(x, t), centred(x, t)) > 1e-2


@pytest.mark.parametrize("change", [{"rescale": False}, {"fir": None}, {"fir": (1, 1)}], ids=str)
def test_an_option_without_weights_acts(change):
    net, other = NCSNpp((1, 8, 8), **SMALL), NCSNpp((1, 8, 8), **SMALL | change)
    other.load_state_dict(spread(net).state_dict())
    x, t = batch((1, 8, 8))
    with torch.no_grad():
        assert distance(other(x, t / 1000), net(x, t / 1000)) > 1e-2


def test_the_filter_of_one_and_one_is_the_plain_mean_and_nearest_neighbour():
    settings = SMALL | {"progressive_input": "none", "progressive": "output_skip"}
    net, plain = NCSNpp((1, 8, 8), **settings, fir=(1, 1)), NCSNpp((1, 8, 8), **settings, fir=None)
    plain.load_state_dict(spread(net).state_dict())
    x, t = batch((1, 8, 8))
    with torch.no_grad():
        torch.testing.assert_close(plain(x, t / 1000), net(x, t / 1000))


def test_the_outputs_of_all_levels_add_up():
    net = spread(NCSNpp((1, 8, 8), **SMALL | {"multipliers": (1, 1, 2), "progressive": "output_skip"}))
    parts = []
    for head in net.heads:
        head.register_forward_hook(lambda _, args, output: parts.append(output))
    x, t = batch((1, 8, 8))
    with torch.no_grad():
        y = net(x, t / 1000)
        grow = Grow((1, 3, 3, 1))
        assert [part.shape[-1] for part in parts] == [2, 4, 8]
        torch.testing.assert_close(y, grow(grow(parts[0])) + grow(parts[1]) + parts[2])


def test_attention_stands_where_the_authors_put_it():
    net = NCSNpp((1, 16, 16), **SMALL | {"multipliers": (1, 1, 2), "blocks": 2, "attention": (8,)})
    found = [n for n, layer in net.named_modules() if isinstance(layer, Attention)]
    assert found == ["down.1.0.attention", "down.1.1.attention", "middle.0.attention", "up.1.2.attention"]
    none = NCSNpp((1, 16, 16), **SMALL | {"attention": ()})
    assert not any(isinstance(layer, Attention) for layer in none.modules())


def test_a_fresh_network_answers_next_to_zero():
    torch.manual_seed(0)
    x, t = batch((1, 8, 8))
    assert NCSNpp((1, 8, 8), **SMALL)(x, t / 1000).abs().max() < 1e-3


def test_autocast_and_memory_format_do_not_change_the_output():
    net = spread(NCSNpp((3, 16, 16), **SMALL | {"attention": (16, 8)})).eval()
    x, t = batch((3, 16, 16))
    t = t / 1000
    with torch.no_grad():
        expected = net(x, t)
        with torch.autocast("cpu", torch.bfloat16):
            assert distance(net(x, t).float(), expected) < 0.05
        got = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), t)
    assert distance(got, expected) < 1e-5


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"embedding": "sinus"}, "embedding is 'sinus'"),
        ({"block": "resnet"}, "block is 'resnet'"),
        ({"progressive": "residual"}, "progressive is 'residual'"),
        ({"progressive_input": "input_skip"}, "progressive_input is 'input_skip'"),
        ({"fir": (1, 2)}, r"fir is \[1, 2\], expected"),
        ({"scale": 0.0}, r"scale is 0\.0"),
        ({"attention": (16,)}, r"heights \[16\], but the levels have \[8, 4\]"),
        ({"channels": 48, "multipliers": (1, 2)}, "144 channels of a layer do not divide into 32 groups"),
        ({"blocks": 0}, "blocks is 0"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_setting_that_builds_no_network_is_refused_in_one_sentence(settings, says):
    with pytest.raises(ValueError, match=says):
        NCSNpp((1, 8, 8), **SMALL | settings)

"""Laws of the U-Net: the published size, diffusers' output at equal weights, and what an output may depend on."""

import importlib.util

import pytest
import torch
from torch import Tensor, nn

from lightning_gen.nets import MLP, NCSNpp, UNet

SMALL = {"channels": 16, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "groups": 8, "dropout": 0.1}
PUBLISHED = {  # google/ddpm-cifar10-32
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "attention_head_dim": None,
}


def spread(net: nn.Module, seed: int = 0) -> nn.Module:
    """The same network with random weights and biases everywhere: the start has zeros that hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            scale = p[0].numel() ** -0.5 if p.dim() > 1 else 0.5
            p.copy_(scale * torch.randn(p.shape, generator=generator) + (0.5 if p.dim() == 1 else 0.0))
    return net


def batch(shape: tuple[int, ...], n: int = 3, seed: int = 1) -> tuple[Tensor, Tensor]:
    """x (n, *shape) and times (n,) in [0, 999]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator), torch.rand(n, generator=generator) * 999


def distance(a: Tensor, b: Tensor) -> float:
    """Greatest difference over greatest value."""
    return float((a - b).abs().max() / b.abs().max())


def test_cifar_network_has_the_published_number_of_parameters():
    with torch.device("meta"):
        net = UNet((3, 32, 32))
    assert sum(p.numel() for p in net.parameters()) == 35_746_307


@pytest.mark.skipif(importlib.util.find_spec("diffusers") is None, reason="diffusers comes with the test extra")
@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((3, 32, 32), {}),
        ((1, 16, 16), {"channels": 16, "multipliers": (1, 2, 2), "blocks": 1, "attention": (16, 4), "groups": 8}),
        (
            (2, 16, 8),
            {"channels": 8, "multipliers": (1, 3), "blocks": 3, "attention": (8,), "groups": 4, "classes": 5},
        ),
    ],
    ids=["cifar", "grey", "labels"],
)
def test_output_equals_that_of_diffusers_at_equal_weights(shape, settings):
    from diffusers import UNet2DModel

    from .diffusers_map import from_diffusers

    full = {"channels": 128, "multipliers": (1, 2, 2, 2), "blocks": 2, "attention": (16,), "groups": 32} | settings
    attends = [shape[1] // 2**level in full["attention"] for level in range(len(full["multipliers"]))]
    theirs = UNet2DModel(
        sample_size=shape[1:],
        in_channels=shape[0],
        out_channels=shape[0],
        block_out_channels=[full["channels"] * m for m in full["multipliers"]],
        layers_per_block=full["blocks"],
        down_block_types=["AttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        up_block_types=["AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        norm_num_groups=full["groups"],
        num_class_embeds=full.get("classes"),
        **PUBLISHED,
    )
    spread(theirs).eval()
    for p in theirs.conv_in.parameters():  # a first map of variance 1e-6: the epsilon of the norms shows
        p.data.mul_(1e-3)
    ours = UNet(shape, **settings).eval()
    ours.load_state_dict(from_diffusers(theirs.state_dict()))
    x, t = batch(shape, n=2)
    label = torch.tensor([0, 4]) if "classes" in settings else None
    with torch.no_grad():
        expected, got = theirs(x, t, label).sample, ours(x, t, label)
    assert expected.std() > 0.1
    assert distance(got, expected) < 1e-5


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((1, 8, 8), SMALL),
        ((3, 8, 8), SMALL | {"multipliers": (1,), "attention": ()}),
        ((1, 28, 28), SMALL | {"multipliers": (1, 2, 2), "attention": (14, 7)}),
        ((3, 32, 32), SMALL | {"multipliers": (1, 2, 2, 2), "attention": (16,)}),
        ((3, 64, 64), SMALL | {"multipliers": (1, 1, 1, 1, 1), "attention": (4,)}),
        ((1, 12, 20), SMALL | {"attention": (6,)}),
    ],
    ids=lambda value: "x".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_an_image_does_not_depend_on_the_rest_of_its_batch(shape, settings):
    net = spread(UNet(shape, **settings)).eval()
    x, t = batch(shape, n=4)
    with torch.no_grad():
        together, alone = net(x, t), torch.cat([net(x[i : i + 1], t[i : i + 1]) for i in range(4)])
    assert together.shape == x.shape
    assert distance(together, alone) < 1e-5
    assert distance(together[:1], together[1:2]) > 1e-2


def test_every_input_changes_the_output():
    net = spread(UNet((1, 8, 8), classes=3, **SMALL)).eval()
    x, t = batch((1, 8, 8))
    label = torch.tensor([0, 1, 2])
    with torch.no_grad():
        y = net(x, t, label)
        assert distance(net(x, t + 1, label), y) > 1e-4
        assert distance(net(x, t, label.flip(0))[:1], y[:1]) > 1e-4
        corner = x.clone()
        corner[..., 0, 0] += 1.0
        assert float((net(corner, t, label) - y)[..., -1, -1].abs().max()) > 1e-4


def test_a_fresh_network_answers_next_to_zero():
    torch.manual_seed(0)
    x, t = batch((1, 8, 8))
    assert UNet((1, 8, 8), **SMALL)(x, t).abs().max() < 1e-3


def test_layers_start_as_in_the_paper_s_code():
    """Uniform of variance scale / fan_avg; scale 1e-10 where a branch ends, 1 elsewhere; biases 0."""
    torch.manual_seed(0)
    net = UNet((1, 8, 8), **SMALL)
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias.abs().max() == 0
            scale = 1e-10 if name == "last" or name.endswith((".conv2", "attention.out")) else 1.0
            for weight in layer.weight.chunk(3) if name.endswith("qkv") else [layer.weight]:
                inputs, outputs = weight[0].numel(), weight[:, 0].numel()
                bound = (6 * scale / (inputs + outputs)) ** 0.5
                assert 0.9 * bound < weight.abs().max() <= bound * (1 + 1e-6), name


def test_dropout_acts_in_training_only():
    net = spread(UNet((1, 8, 8), **SMALL))
    x, t = batch((1, 8, 8))
    with torch.no_grad():
        torch.manual_seed(0)
        a, b = net(x, t), net(x, t)
        torch.manual_seed(0)
        assert torch.equal(net(x, t), a)
        assert distance(a, b) > 1e-3
        net.eval()
        assert torch.equal(net(x, t), net(x, t))


def test_dropout_keeps_the_mean():
    layer = UNet((1, 8, 8), **SMALL).down[0].dropout
    y = layer(torch.ones(1_000_000))
    zeros = (y == 0).double().mean()
    assert abs(zeros - 0.1) < 4 * (0.09 / 1e6) ** 0.5
    assert torch.allclose(y[y != 0], torch.tensor(1 / 0.9))


@pytest.mark.parametrize("net", [UNet((1, 8, 8), classes=2, **SMALL), MLP((1, 8, 8), width=16, depth=2, classes=2)])
def test_every_parameter_learns(net):
    x, t = batch((1, 8, 8), n=8)
    label = torch.arange(8) % 2
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        (net(x, t, label) - x).square().mean().backward()
        optimizer.step()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-8]
    assert silent == []


def test_memory_format_does_not_change_the_output():
    net = spread(UNet((3, 16, 16), **SMALL | {"attention": (16, 8)})).eval()
    x, t = batch((3, 16, 16))
    with torch.no_grad():
        expected = net(x, t)
        got = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), t)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert distance(got, expected) < 1e-5


def test_bfloat16_keeps_neighbouring_times_apart():
    net = spread(UNet((1, 8, 8), **SMALL)).eval()
    x, t = batch((1, 8, 8))
    with torch.no_grad():
        expected = net(x, t)
        with torch.autocast("cpu", torch.bfloat16):
            assert distance(net(x, t), expected) < 0.05
        net.bfloat16()
        half = net(x.bfloat16(), t)
        near = net.embedding(torch.tensor([996.2, 997.5]))  # one number in bfloat16: 996
    assert half.dtype == torch.bfloat16
    assert distance(half.float(), expected) < 0.1
    assert (near[0] - near[1]).abs().max() > 0.01


def test_without_attention_second_derivatives_exist():
    net = spread(UNet((1, 8, 8), **SMALL | {"attention": (), "dropout": 0.0}).double())
    x, t = batch((1, 8, 8), n=1)
    x = x.double().requires_grad_()
    (slope,) = torch.autograd.grad(net(x, t).square().sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("shape", "settings", "says"),
    [
        ((1, 28, 28), {}, "28x28 .* 8"),
        ((1, 8, 8), SMALL | {"groups": 5}, "groups is 5 and must divide channels, 16"),
        ((1, 8, 8), SMALL | {"attention": (16,)}, r"heights \[16\], but the levels have \[8, 4\]"),
        ((1, 8, 8), SMALL | {"dropout": 1.0}, r"dropout is 1\.0"),
        ((1, 8, 8), SMALL | {"blocks": 0}, "blocks is 0"),
        ((1, 8, 8), SMALL | {"multipliers": ()}, r"multipliers is \(\)"),
        ((1, 8, 8), SMALL | {"channels": 2, "groups": 1}, "channels is 2"),
        ((1, 8, 8), SMALL | {"classes": 0}, "classes is 0"),
        ((64,), SMALL, r"shape is \(64,\)"),
    ],
)
def test_a_setting_that_builds_no_network_is_refused_in_one_sentence(shape, settings, says):
    with pytest.raises(ValueError, match=says):
        UNet(shape, **settings)


def test_a_label_is_asked_for_or_refused_in_one_sentence():
    x, t = batch((1, 8, 8))
    with pytest.raises(ValueError, match="3 classes.*label"):
        UNet((1, 8, 8), classes=3, **SMALL)(x, t)
    with pytest.raises(ValueError, match="classes.*label"):
        UNet((1, 8, 8), **SMALL)(x, t, torch.tensor([0, 1, 2]))


@pytest.mark.parametrize(
    ("side", "multipliers", "attention"),
    [(8, [1, 2], 4), (28, [1, 2, 2], 14), (32, [1, 2, 2, 2], 16), (25, [1], 25), (100, [1, 2, 2], 50)],
)
@pytest.mark.parametrize("net", [UNet, NCSNpp])
def test_levels_that_are_left_open_suit_any_size(net, side, multipliers, attention):
    node = {"shape": [3, side, side], "channels": 8, "blocks": 1, "groups": 4, "multipliers": None, "attention": None}
    assert net.fitted(node) == {"multipliers": multipliers, "attention": [attention]}
    assert net.fitted(node | {"multipliers": [1, 4]}) == {"attention": [side // 2]}
    options = {"fir": None} if net is NCSNpp else {}
    names = [set(net(**node | fitted, **options).state_dict()) for fitted in ({}, net.fitted(node))]
    assert names[0] == names[1]

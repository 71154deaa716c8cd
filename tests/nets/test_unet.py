"""Laws of the U-Net: the published size, diffusers' output at equal weights, and what a network may depend on."""

import copy
import importlib.util

import pytest
import torch
from torch import Tensor, nn

from lightning_gen.nets import UNet

SMALL = {"channels": 16, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "groups": 8, "dropout": 0.1}
NAMES = {  # published model: google/ddpm-cifar10-32
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "attention_head_dim": None,
}


def spread(net: nn.Module, seed: int = 0) -> nn.Module:
    """The same network with weights that hide nothing: at the start the last layers are next to zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            scale = p[0].numel() ** -0.5 if p.dim() > 1 else 0.5
            p.copy_(scale * torch.randn(p.shape, generator=generator) + (0.5 if p.dim() == 1 else 0.0))
    return net


def batch(shape, n: int = 3, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator), torch.rand(n, generator=generator) * 999


def test_cifar_network_has_the_published_number_of_parameters():
    with torch.device("meta"):
        net = UNet((3, 32, 32))
    assert sum(p.numel() for p in net.parameters()) == 35_746_307


@pytest.mark.skipif(importlib.util.find_spec("diffusers") is None, reason="diffusers is in the test extra")
@pytest.mark.parametrize(
    ("shape", "channels", "multipliers", "blocks", "attention", "groups", "classes"),
    [
        ((3, 32, 32), 128, (1, 2, 2, 2), 2, (16,), 32, None),
        ((1, 16, 16), 16, (1, 2, 2), 1, (16, 4), 8, None),
        ((2, 16, 8), 8, (2, 1, 3), 3, (8,), 4, 5),
    ],
)
def test_output_equals_that_of_diffusers_at_equal_weights(
    shape, channels, multipliers, blocks, attention, groups, classes
):
    from diffusers import UNet2DModel
    from diffusers_map import from_diffusers

    at = [shape[1] // 2**level in attention for level in range(len(multipliers))]
    # Their first block starts from channels[0] of the list: conv_in has the width of level 0.
    if multipliers[0] != 1:
        channels, multipliers = channels * multipliers[0], [m / multipliers[0] for m in multipliers]
        pytest.skip("unreachable") if channels < 1 else None
    theirs = spread(
        UNet2DModel(
            sample_size=shape[1:],
            in_channels=shape[0],
            out_channels=shape[0],
            block_out_channels=[int(channels * m) for m in multipliers],
            layers_per_block=blocks,
            down_block_types=["AttnDownBlock2D" if a else "DownBlock2D" for a in at],
            up_block_types=["AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(at)],
            norm_num_groups=groups,
            num_class_embeds=classes,
            **NAMES,
        )
    ).eval()

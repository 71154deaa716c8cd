"""The U-Net of DDPM: (x, t, label) -> like x."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_gen.nets.layers import EPS, Embedding, Residual, Waves, image_shape, init, init_near_zero
from lightning_gen.nets.resample import Downsample, Upsample
from lightning_gen.options import Checked, Count, Counts, Rate, Shape


class UNet(Checked, nn.Module):
    """A U-Net of residual blocks: an encoder, a middle, and a decoder that takes every map of the encoder.

    Level l has channels * multipliers[l] channels at 1 / 2^l of the size, with `blocks` residual blocks in the encoder
    and one more in the decoder. At shape (3, 32, 32) the defaults are the network of the CIFAR-10 experiments,
    35,746,307 parameters.
    Denoising Diffusion Probabilistic Models (Ho et al., 2020), https://arxiv.org/abs/2006.11239, after Wide ResNet
    and PixelCNN++ (Salimans et al., 2017), https://arxiv.org/abs/1701.05517

    Args:
        shape: (C, H, W) of one image; H and W divisible by 2^(levels - 1).
        channels: of level 0 where its multiplier is 1, and waves of the time embedding: even, divisible by groups.
        multipliers: of `channels`, one for each level; null for 1, 2, 2, ..., while a level has 8 pixels or more to
            halve in height and width.
        blocks: residual blocks of a level of the encoder.
        attention: heights in pixels: attention follows every block there, and the middle's first; empty for none,
            null for the second level's, or the only one's.
        dropout: probability of a zero in each block, in [0, 1).
        groups: of every group normalisation.
        classes: number of labels; null for a network without labels.
        convention: tensorflow, as Ho et al.: epsilon 1e-6 in normalisations, strided convolutions padded after the last
            pixel, frequencies of time from 1 to 1e-4; pytorch: 1e-5, padded on both sides, and 1e-4 is not reached.
    """

    growth = "bounded"  # for any x: the last convolution follows a normalisation

    fitted = staticmethod(lambda node: fitted_levels(node))  # which is defined below

    def __init__(
        self,
        shape: Shape,
        channels: Waves = 128,
        multipliers: Counts | None = (1, 2, 2, 2),
        blocks: Count = 2,
        attention: Sequence[Count] | None = (16,),
        dropout: Rate = 0.1,
        groups: Count = 32,
        classes: Count | None = None,
        convention: Literal["tensorflow", "pytorch"] = "tensorflow",
    ) -> None:
        super().__init__()
        multipliers, attention = fitting_levels(image_shape(self, shape), multipliers, attention)
        heights = level_heights(shape, multipliers)
        check_levels(channels, attention, groups, heights)
        self.shape, self.classes = tuple(shape), classes
        widths = [channels * m for m in multipliers]
        size = 4 * channels
        tensorflow = convention == "tensorflow"
        norm = partial(nn.GroupNorm, groups, eps=EPS if tensorflow else 1e-5)
        self.embedding = Embedding(channels, size, classes, endpoint=tensorflow)

        def block(inputs: int, outputs: int, attend: bool) -> Residual:
            return Residual(inputs, outputs, size, dropout, norm, attend)

        self.first = init(nn.Conv2d(shape[0], channels, 3, padding=1))
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, skips = channels, [channels]
        for level, (outputs, height) in enumerate(zip(widths, heights, strict=True)):
            for _ in range(blocks):
                self.down.append(block(width, outputs, height in attention))
                width = outputs
                skips.append(width)
            if level < len(widths) - 1:
                self.down.append(Downsample(width, before=int(not tensorflow)))
                skips.append(width)
        self.middle = nn.ModuleList([block(width, width, len(attention) > 0), block(width, width, False)])
        for level, (outputs, height) in reversed(list(enumerate(zip(widths, heights, strict=True)))):
            for _ in range(blocks + 1):
                self.up.append(block(width + skips.pop(), outputs, height in attention))
                width = outputs
            if level > 0:
                self.up.append(Upsample(width))
        self.norm = norm(width)
        self.last = init_near_zero(nn.Conv2d(width, shape[0], 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Like x (B, C, H, W); t (B,) in steps, 0 to 999 for DDPM; label (B,) int64 if the network has classes."""
        embedding = F.silu(self.embedding(t, label))
        h = self.first(x)
        skips = [h]
        for layer in self.down:
            h = layer(h, embedding)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, embedding)
        for layer in self.up:
            h = layer(h if isinstance(layer, Upsample) else torch.cat([h, skips.pop()], dim=1), embedding)
        return self.last(F.silu(self.norm(h)))


def fitting_levels(
    shape: Sequence[int], multipliers: Sequence[int] | None, attention: Sequence[int] | None
) -> tuple[Sequence[int], Sequence[int]]:
    """Both, and where they are null what suits the shape (C, H, W): 1, 2, 2, ..., and the second level's height."""
    if multipliers is None:
        multipliers, sides = [1], list(shape[1:])
        while all(side % 2 == 0 and side >= 8 for side in sides):
            multipliers, sides = [*multipliers, 2], [side // 2 for side in sides]
    if attention is None:
        attention = [shape[1] // 2 if len(multipliers) > 1 else shape[1]]
    return multipliers, attention


def fitted_levels(node: Mapping[str, Any]) -> dict[str, Any]:
    """What a config that leaves multipliers or attention null takes from its shape, for the stored one.

    Nothing for vectors, which the network refuses.
    """
    if len(node["shape"]) != 3:
        return {}
    levels = fitting_levels(node["shape"], node.get("multipliers", (1,)), node.get("attention", ()))
    return {key: list(levels[i]) for i, key in enumerate(("multipliers", "attention")) if node.get(key, 0) is None}


def level_heights(shape: Sequence[int], multipliers: Sequence[int]) -> list[int]:
    """The height of every level, pixels; ValueError for a size that cannot be halved that often."""
    factor = 2 ** (len(multipliers) - 1)
    if shape[1] % factor or shape[2] % factor:
        raise ValueError(
            f"{len(multipliers)} levels halve the image {len(multipliers) - 1} times, but {shape[1]}x{shape[2]} is not"
            f" divisible by {factor}: give fewer multipliers or resize the images"
        )
    return [shape[1] // 2**level for level in range(len(multipliers))]


def check_levels(channels: int, attention: Sequence[int], groups: int, heights: Sequence[int]) -> None:
    """ValueError for channels that `groups` does not divide, and for heights of `attention` that no level has."""
    if channels % groups:
        raise ValueError(f"groups is {groups} and must divide channels, {channels}: take a divisor of {channels}")
    if missing := sorted(set(attention) - set(heights)):
        raise ValueError(f"attention names the heights {missing}, but the levels have {heights}: choose among these")

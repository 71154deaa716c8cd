"""The U-Nets of the score SDEs, NCSN++ and DDPM++: (x, t, label) -> like x."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from lightning_gen.nets.layers import EPS, Embedding, Residual, image_shape, init, init_near_zero, residual_sum
from lightning_gen.nets.resample import Downsample, Grow, Shrink, Upsample
from lightning_gen.nets.unet import check_levels, fitted_levels, fitting_levels, level_heights
from lightning_gen.options import Checked, Count, Counts, Positive, Rate, Shape


class NCSNpp(Checked, nn.Module):
    """DDPM's U-Net with Fourier features of log sigma, BigGAN's blocks, low-pass filters and image pyramids.

    At shape (3, 32, 32) the defaults are NCSN++ cont. (62,758,787 parameters); with embedding positional, fir null and
    progressive_input none DDPM++ cont. (61,804,419).
    Score SDE (Song et al., 2021, appendices G and H), https://arxiv.org/abs/2011.13456

    Args:
        shape: (C, H, W) of one image; H and W divisible by 2^(levels - 1).
        channels: of level 0 where its multiplier is 1, at least 4.
        multipliers: of `channels`, one for each level; null as in UNet.
        blocks: residual blocks of a level of the encoder; the decoder has one more.
        attention: heights in pixels: attention follows every block there in the encoder, the last in the decoder, and
            the first of the middle; empty for none at all, null for the second level's, or the only one's.
        dropout: probability of a zero in each block, in [0, 1).
        groups: most groups of a group normalisation; each has four channels or more.
        classes: number of labels; null for a network without labels.
        embedding: fourier for t = log sigma, positional for t in 0 to 999.
        scale: standard deviation of the Fourier frequencies, in periods per unit of log sigma.
        block: biggan resamples inside a residual block, ddpm by a convolution.
        rescale: divide each sum by sqrt 2.
        fir: taps of the low-pass filter; null for means of 2x2 and nearest neighbours.
        progressive: output_skip sums an output of each level, upsampled to the full size.
        progressive_input: residual adds the downsampled input to each level.
        recentre: take x in [0, 1] to 2 x - 1, as published NCSN++ does.
    """

    fitted = staticmethod(fitted_levels)

    def __init__(
        self,
        shape: Shape,
        channels: Annotated[int, Ge(4)] = 128,
        multipliers: Counts | None = (1, 2, 2, 2),
        blocks: Count = 4,
        attention: Sequence[Count] | None = (16,),
        dropout: Rate = 0.1,
        groups: Count = 32,
        classes: Count | None = None,
        embedding: Literal["fourier", "positional"] = "fourier",
        scale: Positive = 16.0,
        block: Literal["biggan", "ddpm"] = "biggan",
        rescale: bool = True,
        fir: Sequence[float] | None = (1, 3, 3, 1),
        progressive: Literal["none", "output_skip"] = "none",
        progressive_input: Literal["none", "residual"] = "residual",
        recentre: bool = False,
    ) -> None:
        super().__init__()
        multipliers, attention = fitting_levels(image_shape(self, shape), multipliers, attention)
        heights = level_heights(shape, multipliers)
        check_levels(channels, attention, min(groups, channels // 4), heights)
        self.shape, self.classes, self.rescale, self.recentre = tuple(shape), classes, rescale, recentre
        levels, widths, size = len(heights), [channels * m for m in multipliers], 4 * channels
        fourier = embedding == "fourier"
        self.embedding = Embedding((1 + fourier) * channels, size, classes, scale if fourier else None)
        norm = partial(_norm, groups)
        # 0.1: the authors' init of the attention's three projections.
        residual = partial(Residual, embedding=size, dropout=dropout, norm=norm, rescale=rescale, scale=0.1)

        def resized(width: int, biggan: type[nn.Module], ddpm: type[nn.Module]) -> nn.Module:
            if block == "ddpm":
                return ddpm(width, fir=fir)
            return residual(width, width, attention=False, resample=biggan(fir))

        self.first = init(nn.Conv2d(shape[0], channels, 3, padding=1))
        self.down, self.shrink, self.inputs = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        width, input_width, skips = channels, shape[0], [channels]
        for level, (outputs, height) in enumerate(zip(widths, heights, strict=True)):
            row = nn.ModuleList()
            for _ in range(blocks):
                row.append(residual(width, outputs, attention=height in attention))
                width = outputs
                skips.append(width)
            self.down.append(row)
            if level < levels - 1:
                self.shrink.append(resized(width, Shrink, Downsample))
                if progressive_input == "residual":
                    self.inputs.append(Downsample(input_width, width, fir))
                    input_width = width
                skips.append(width)
        self.middle = nn.ModuleList(residual(width, width, attention=first and len(attention) > 0) for first in (1, 0))
        self.up, self.grow, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, (outputs, height) in reversed(list(enumerate(zip(widths, heights, strict=True)))):
            row = nn.ModuleList()
            for index in range(blocks + 1):
                row.append(residual(width + skips.pop(), outputs, attention=height in attention and index == blocks))
                width = outputs
            self.up.append(row)
            if level == 0 or progressive == "output_skip":
                final = init_near_zero(nn.Conv2d(width, shape[0], 3, padding=1))
                self.heads.append(nn.Sequential(norm(width), nn.SiLU(), final))
            if level > 0:
                self.grow.append(resized(width, Grow, Upsample))
        self.enlarge = Grow(fir)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Like x (B, C, H, W); t (B,) is log sigma for fourier, 0 to 999 for positional; label int64 if classes."""
        embedding = F.silu(self.embedding(t, label))
        image = 2 * x - 1 if self.recentre else x
        h = self.first(image)
        skips = [h]
        for level, row in enumerate(self.down):
            for block in row:
                h = block(h, embedding)
                skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h, embedding)
                if len(self.inputs):
                    h = image = residual_sum(self.inputs[level](image), h, self.rescale)
                skips.append(h)
        for block in self.middle:
            h = block(h, embedding)
        total = None
        for step, row in enumerate(self.up):
            for block in row:
                h = block(torch.cat([h, skips.pop()], dim=1), embedding)
            if step >= len(self.up) - len(self.heads):  # every level has an output, or only the last
                output = self.heads[step - len(self.up)](h)
                total = output if total is None else self.enlarge(total) + output
            if step < len(self.grow):
                h = self.grow[step](h, embedding)
        return total


def _norm(groups: int, channels: int) -> nn.GroupNorm:
    """A normalisation of at most `groups` groups, each of four channels or more."""
    groups = min(groups, channels // 4)
    if groups < 1 or channels % groups:
        raise ValueError(
            f"{channels} channels of a layer do not divide into {groups} groups: take channels that groups divides"
        )
    return nn.GroupNorm(groups, channels, eps=EPS)

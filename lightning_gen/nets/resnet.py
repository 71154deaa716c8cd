"""The residual network of IGEBM: one energy for each image."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from lightning_gen.nets.layers import image_shape
from lightning_gen.options import Checked, Count, Counts, Shape


class ResNetEnergy(Checked, nn.Module):
    """3x3 convolutions in residual blocks, halved in size between levels, summed over pixels -> (B,).

    No normalisation layer, so f grows at most linearly in |x|. Swish, as in Nijkamp et al. (2020), where the paper has
    leaky ReLU: score matching needs second derivatives. Time and label are not used.
    Implicit generation and modeling with EBMs (Du & Mordatch, 2019, appendix A.9), https://arxiv.org/abs/1903.08689

    Args:
        shape: (C, H, W) of one image.
        channels: of level 0 where its multiplier is 1.
        multipliers: of `channels`, one for each level.
        blocks: residual blocks of a level.
        spectral: divide every weight by its largest singular value.
        stride: of the first convolution, pixels; its kernel is 2 stride + 1 wide.
    """

    growth = "linear"

    def __init__(
        self,
        shape: Shape,
        channels: Count = 128,
        multipliers: Counts = (1, 2, 2),
        blocks: Count = 2,
        spectral: bool = False,
        stride: Count = 1,
    ) -> None:
        super().__init__()
        image_shape(self, shape)
        least = stride * 2 ** (len(multipliers) - 1)
        if min(shape[1:]) < least:
            raise ValueError(
                f"net.multipliers has {len(multipliers)} levels at stride {stride}, expected no side below {least} "
                f"pixels, got {shape[1]}x{shape[2]}: write fewer multipliers"
            )

        def norm(layer: nn.Module) -> nn.Module:
            nn.init.zeros_(layer.bias)
            return spectral_norm(layer) if spectral else layer

        widths = [channels * m for m in multipliers]
        self.classes = None
        self.first = norm(nn.Conv2d(shape[0], widths[0], 2 * stride + 1, stride, padding=stride))
        self.levels = nn.ModuleList()
        before = widths[0]
        for width in widths:
            level = nn.ModuleList()
            for _ in range(blocks):
                skip = nn.Identity() if before == width else norm(nn.Conv2d(before, width, 1))
                first, second = (norm(nn.Conv2d(inputs, width, 3, padding=1)) for inputs in (before, width))
                level.append(nn.ModuleList([first, second, skip]))
                before = width
            self.levels.append(level)
        self.last = norm(nn.Linear(before, 1))

    def forward(self, x: Tensor, t: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        """f(x), (B,), of images (B, C, H, W)."""
        h = self.first(x)
        for number, level in enumerate(self.levels):
            h = F.avg_pool2d(h, 2) if number else h
            for one, two, skip in level:
                h = skip(h) + two(F.silu(one(F.silu(h))))
        return self.last(F.silu(h).sum((2, 3))).squeeze(1)

"""Layers that halve or double the height and width of maps, with or without a low-pass filter."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_gen.nets.layers import init


class Fir(nn.Module):
    """A low-pass filter: each map convolved with w w^T / (sum w)^2, w the taps, zeros outside the map.

    Upsampling puts zeros at three of four pixels, so there the gain is 4, and both phases of the taps have equal sums.
    Making convolutional networks shift-invariant again (Zhang, 2019), https://arxiv.org/abs/1904.11486; padded as in
    StyleGAN2 (Karras et al., 2020), https://arxiv.org/abs/1912.04958

    Args:
        taps: w, two or more; those of even and of odd index have the same sum, not 0.
    """

    def __init__(self, taps: Sequence[float]) -> None:
        super().__init__()
        even, odd = sum(taps[::2]), sum(taps[1::2])
        if len(taps) < 2 or even == 0 or even != odd:
            raise ValueError(
                f"fir is {list(taps)}, expected two taps or more whose even and odd ones have the same sum, not 0 (else"
                " constant images get stripes): write [1, 3, 3, 1], or null for none"
            )
        w = torch.tensor(taps, dtype=torch.float32) / (even + odd)
        self.size = len(taps)
        self.register_buffer("kernel", torch.outer(w, w)[None, None], persistent=False)

    def down(self, x: Tensor, stride: int = 2, margin: int = 0) -> Tensor:
        """Every stride-th pixel of the filtered map, padded by `margin` pixels: (B, C, H/2, W/2) by default."""
        pad = self.size - 2 + 2 * margin
        x = F.pad(x, ((pad + 1) // 2, pad // 2) * 2)
        return F.conv2d(x, self.spread(x).flip(2, 3), stride=stride, groups=x.shape[1])

    def up(self, x: Tensor, margin: int = 0) -> Tensor:
        """Zeros between the pixels, then filtered, (B, C, 2H + 2 margin, 2W + 2 margin)."""
        full = F.conv_transpose2d(x, 4 * self.spread(x), stride=2, groups=x.shape[1])
        after = (self.size - 1) // 2
        before = self.size - 2 - after
        return F.pad(full, (margin - before, margin - after) * 2)

    def spread(self, x: Tensor) -> Tensor:
        """The kernel once for each channel of x, (C, 1, K, K)."""
        return self.kernel.to(x.dtype).expand(x.shape[1], -1, -1, -1)


def low_pass(fir: Sequence[float] | None) -> Fir | None:
    """The filter with the taps `fir`, or None."""
    return None if fir is None else Fir(fir)


class Shrink(nn.Module):
    """Halves height and width without weights: the mean of 2x2, or a low-pass filter.

    Args:
        fir: the filter's taps; null for the mean.
    """

    def __init__(self, fir: Sequence[float] | None = None) -> None:
        super().__init__()
        self.fir = low_pass(fir)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H/2, W/2)."""
        return F.avg_pool2d(x, 2) if self.fir is None else self.fir.down(x)


class Grow(nn.Module):
    """Doubles height and width without weights: nearest neighbour, or a low-pass filter.

    Args:
        fir: the filter's taps; null for the nearest neighbour.
    """

    def __init__(self, fir: Sequence[float] | None = None) -> None:
        super().__init__()
        self.fir = low_pass(fir)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 2H, 2W)."""
        return F.interpolate(x, scale_factor=2.0, mode="nearest") if self.fir is None else self.fir.up(x)


class Downsample(nn.Module):
    """Halves height and width: a low-pass filter or nothing, then a 3x3 convolution of stride 2 (Ho et al., 2020).

    Args:
        inputs: channels of x.
        outputs: channels of the result; null for as many.
        fir: the filter's taps; null for no filter.
        before: zeros before the first row and column, where there is no filter; one follows the last. 0 is
            TensorFlow's SAME padding of an even size, 1 PyTorch's padding of 1.
    """

    def __init__(
        self, inputs: int, outputs: int | None = None, fir: Sequence[float] | None = None, before: int = 0
    ) -> None:
        super().__init__()
        self.fir, self.before = low_pass(fir), before
        self.conv = init(nn.Conv2d(inputs, outputs or inputs, 3, stride=2))

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """(B, outputs, H/2, W/2)."""
        return self.conv(
            F.pad(x, (self.before, 1, self.before, 1)) if self.fir is None else self.fir.down(x, stride=1, margin=1)
        )


class Upsample(nn.Module):
    """Doubles height and width: nearest neighbour or a low-pass filter, then a 3x3 convolution (Ho et al., 2020).

    Args:
        channels: of x, and of the result.
        fir: the filter's taps; null for the nearest neighbour.
    """

    def __init__(self, channels: int, fir: Sequence[float] | None = None) -> None:
        super().__init__()
        self.fir = low_pass(fir)
        self.conv = init(nn.Conv2d(channels, channels, 3, padding=1 if fir is None else 0))

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """(B, C, 2H, 2W)."""
        if self.fir is None:
            return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv(self.fir.up(x, margin=1))

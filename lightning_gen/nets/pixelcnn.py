"""Gated PixelCNN: a stack of convolutions over the rows above and one over the pixels to the left, no blind spot."""

from collections import deque
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from lightning_gen.nets.causal import Causal, scaled
from lightning_gen.nets.layers import image_shape
from lightning_gen.options import Count, Levels, Shape


def gate(x: Tensor, dim: int = 1) -> Tensor:
    """tanh(a) * sigmoid(b), of the halves a and b of the channels, which are dimension `dim`."""
    a, b = x.chunk(2, dim=dim)
    return a.tanh() * b.sigmoid()


class GatedLayer(nn.Module):
    """One layer of both stacks. The vertical one sees a row and those above; the horizontal one the pixel and those to
    its left, in the first layer those to its left alone (mask A, then B), and the vertical one's row above.

    Args:
        inputs: channels of the input.
        channels: of the output.
        reach: rows above, and pixels to each side, of the convolutions, >= 1.
        first: whether it is the first layer, whose horizontal input is x itself.
    """

    def __init__(self, inputs: int, channels: int, reach: int, first: bool) -> None:
        super().__init__()
        self.reach, self.first = reach, first
        self.vertical = nn.Conv2d(inputs, 2 * channels, (reach + 1, 2 * reach + 1))
        self.across = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.horizontal = nn.Conv2d(inputs, 2 * channels, (1, reach if first else reach + 1))
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Both stacks after the layer, (B, channels, H, W), from those before it."""
        width = h.shape[-1]
        rows = self.vertical(F.pad(v, (self.reach, self.reach, self.reach, 0)))
        above = self.across(F.pad(rows, (0, 0, 1, 0))[:, :, :-1])
        # In the first layer the filter is one shorter, and so its last output, of all pixels of the row, is dropped.
        left = self.horizontal(F.pad(h, (self.reach, 0, 0, 0)))[..., :width]
        change = self.out(gate(left + above))
        return gate(rows), change if self.first else h + change

    def matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """The weights of the vertical stack, (columns x rows x inputs, 2 channels), of the horizontal one, (pixels x
        inputs, 2 channels), and of its output, (channels, channels)."""
        stacks = (conv.weight.permute(3, 2, 1, 0).flatten(0, 2) for conv in (self.vertical, self.horizontal))
        return (*stacks, self.out.weight.flatten(1).T)

    def border(self, n: int) -> deque[Tensor]:
        """Inputs of 0 to the left of an image, (n, inputs) each, to which those of the pixels are added."""
        weight = self.horizontal.weight
        return deque([weight.new_zeros(n, weight.shape[1])] * self.reach, maxlen=weight.shape[3])

    def above(self, row: Tensor) -> tuple[Tensor, ...]:
        """What a row of the vertical stack, (W, B, 2 channels), gives to each of the W pixels of the next,
        (B, 2 channels), with the biases of both."""
        return F.linear(row, self.across.weight.flatten(1), self.across.bias + self.horizontal.bias).unbind()


@dataclass
class Cache:
    """The features of images that are filled row by row.

    Args:
        matrices: of each layer.
        rows: of each layer the last rows of the vertical stack's input, (W + 2 reach, B, (reach + 1) x inputs).
        above: of each layer what the row above gives to each pixel of the present one, (B, 2 channels) each.
        left: of each layer the horizontal stack's inputs at the last pixels of the present row, (B, inputs) each.
    """

    matrices: list[tuple[Tensor, Tensor, Tensor]]
    rows: list[Tensor]
    above: list[tuple[Tensor, ...]]
    left: list[deque[Tensor]]


class PixelCNN(Causal):
    """Gated layers tanh(a) * sigmoid(b), of a vertical and a horizontal stack, then two 1x1 convolutions.

    A pixel's outputs depend on the pixels before it in rows, all of them within reach. Colour needs `logistics`, by
    which green depends on red, and blue on both. The input has a channel of ones, by which borders are known.
    Gated PixelCNN (van den Oord et al., 2016), https://arxiv.org/abs/1606.05328

    Args:
        shape, levels, logistics: those of Causal.
        channels: of the stacks.
        depth: gated layers.
        kernel: width of the convolutions, odd, but for the first layer's.
        first: width of the first layer's convolutions, odd.
        hidden: channels between the last two 1x1 convolutions.
    """

    def __init__(
        self,
        shape: Shape,
        levels: Levels = 2,
        logistics: Count | None = None,
        channels: Count = 64,
        depth: Count = 7,
        kernel: Annotated[int, Ge(3)] = 3,
        first: Annotated[int, Ge(3)] = 7,
        hidden: Count = 128,
    ) -> None:
        colours, height, width = image_shape(self, shape)
        if kernel % 2 == 0 or first % 2 == 0:
            raise ValueError(f"net.kernel is {kernel} and net.first {first}, expected odd numbers: change the even one")
        if colours > 1 and logistics is None:
            raise ValueError(
                f"net.logistics is null for {colours} channels, expected a number of components, for a softmax of a "
                "channel would not depend on the others of its pixel: write 5, or choose CausalTransformer or MADE"
            )
        super().__init__(shape, levels, logistics, colours)
        self.height, self.width = height, width
        self.layers = nn.ModuleList(
            GatedLayer(channels if k else colours + 1, channels, (kernel if k else first) // 2, k == 0)
            for k in range(depth)
        )
        self.middle, self.last = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, self.law.size, 1)

    def forward(self, x: Tensor, ordering: int = 0) -> Tensor:
        """Outputs at all pixels, (B, H W, size), of sequences x (B, D)."""
        v = h = self.pixels(x, 0, self.sites).transpose(1, 2).unflatten(2, (self.height, self.width)).contiguous()
        for layer in self.layers:
            v, h = layer(v, h)
        return self.last(F.relu(self.middle(F.relu(h)))).flatten(2).transpose(1, 2)

    def begin(self, x: Tensor, ordering: int = 0) -> Cache:
        """Rows of zeros above the image."""
        cache, n = Cache([layer.matrices() for layer in self.layers], [], [], []), len(x)
        for layer in self.layers:
            reach, inputs, channels = layer.reach, layer.vertical.in_channels, layer.vertical.out_channels
            cache.rows.append(x.new_zeros(self.width + 2 * reach, n, (reach + 1) * inputs))
            cache.above.append(layer.above(x.new_zeros(self.width, n, channels)))
        return cache

    def finish_row(self, cache: Cache, row: Tensor) -> None:
        """The vertical stack of one whole row of the input, (W, B, colours + 1), and what it gives to the next.

        Its convolution is a product with what each pixel's window holds: of one row that takes less time.
        """
        for i, (layer, (vertical, _, _)) in enumerate(zip(self.layers, cache.matrices, strict=True)):
            new = F.pad(row, (0, 0, 0, 0, layer.reach, layer.reach))
            cache.rows[i] = rows = torch.cat([cache.rows[i][..., row.shape[-1] :], new], dim=-1)
            windows = torch.cat([rows[j : j + self.width] for j in range(2 * layer.reach + 1)], dim=-1)
            features = windows @ vertical + layer.vertical.bias
            cache.above[i], row = layer.above(features), gate(features, dim=-1)

    def step(self, cache: Cache, x: Tensor, k: int) -> Tensor:
        """Outputs at the k-th pixel, (B, size): the vertical stack where a row begins, then the horizontal one."""
        row, column = divmod(k, self.width)
        if column == 0:
            if row > 0:
                self.finish_row(cache, self.pixels(x, k - self.width, k).transpose(0, 1))
            cache.left = [layer.border(len(x)) for layer in self.layers]
        h = self.pixels(x, k - 1, k)[:, 0] if column > 0 else cache.left[0][0]
        for layer, matrices, above, left in zip(self.layers, cache.matrices, cache.above, cache.left, strict=True):
            _, horizontal, out = matrices
            left.append(h)
            features = torch.addmm(above[column], torch.cat([*left], dim=1), horizontal)
            change = torch.addmm(layer.out.bias, gate(features), out)
            h = change if layer.first else h + change
        h = F.relu(F.linear(F.relu(h), self.middle.weight.flatten(1), self.middle.bias))
        return F.linear(h, self.last.weight.flatten(1), self.last.bias)

    def pixels(self, x: Tensor, start: int, stop: int) -> Tensor:
        """The input (B, stop - start, colours + 1) of pixels of sequences x (B, D)."""
        part = scaled(x[:, start * self.joint : stop * self.joint], self.levels)
        return F.pad(part.view(len(x), stop - start, self.joint), (0, 1), value=1.0)

"""Layers that the networks share: initialisation, the embedding of time and label, residual and attention blocks."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, MultipleOf
from torch import Tensor, nn

from lightning_gen.options import Checked, Count, Positive, Rate

Norm = Callable[[int], nn.Module]  # channels -> their GroupNorm
Waves = Annotated[int, Ge(4), MultipleOf(2)]  # sines and cosines of a time embedding: two frequencies or more

EPS = 1e-6  # of every GroupNorm: TensorFlow's default, with which Ho et al. trained; PyTorch's is 1e-5


def image_shape(net: nn.Module, shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` as (C, H, W); ValueError where it has not three axes."""
    if len(shape) != 3:
        raise ValueError(
            f"{type(net).__name__}.shape is {tuple(shape)}, expected (C, H, W), of images: choose a network for"
            " vectors, as net=mlp"
        )
    return tuple(shape)


def init(layer: nn.Module, scale: float = 1.0) -> nn.Module:
    """Weights U(-a, a) of variance scale / fan_avg, bias 0: the init of Ho et al.'s code."""
    nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(scale))
    nn.init.zeros_(layer.bias)
    return layer


def init_near_zero(layer: nn.Module) -> nn.Module:
    """`init` at scale 1e-10, for the last layer of a branch: what Ho et al.'s code uses where its `init_scale` is 0."""
    return init(layer, 1e-10)


def residual_sum(x: Tensor, h: Tensor, rescale: bool) -> Tensor:
    """x + h, like x; with `rescale` over sqrt 2: independent terms of variance 1 have a sum of variance 1.

    StyleGAN2 (Karras et al., 2020), https://arxiv.org/abs/1912.04958
    """
    return (x + h) / math.sqrt(2) if rescale else x + h


class Embedding(Checked, nn.Module):
    r"""Time, and a label if there are classes, as one vector: MLP(sin(w t), cos(w t)) + table[label].

    The frequencies w are geometric from 1 to 1e-4: t counts steps (DDPM: 0 to 999). With a `scale` they are
    2 pi scale z instead, z ~ N(0, 1) drawn once and never trained: t is log sigma.

    Denoising Diffusion Probabilistic Models (Ho et al., 2020), https://arxiv.org/abs/2006.11239; Fourier features
    (Tancik et al., 2020), https://arxiv.org/abs/2006.10739, as in Score SDE (Song et al., 2021), appendix G; the
    label's table as in Diffusion Models Beat GANs (Dhariwal and Nichol, 2021), https://arxiv.org/abs/2105.05233

    Args:
        waves: number of sines and cosines together, even, at least 4.
        width: of the embedding.
        classes: number of labels; null for a network without labels.
        scale: standard deviation of the random frequencies, in periods per unit of t; null for the geometric ones.
        endpoint: whether 1e-4 is the last of the geometric frequencies, or would be the next.
    """

    def __init__(
        self,
        waves: Waves,
        width: Count,
        classes: Count | None = None,
        scale: Positive | None = None,
        endpoint: bool = True,
    ) -> None:
        super().__init__()
        self.waves, self.classes, self.endpoint = waves, classes, endpoint
        self.register_buffer("frequencies", None if scale is None else scale * torch.randn(waves // 2))
        self.first = init(nn.Linear(waves, width))
        self.second = init(nn.Linear(width, width))
        self.table = None if classes is None else nn.Embedding(classes, width)

    def forward(self, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Embedding of t (B,) and label (B,) int64, (B, width); ValueError for a label too many or missing."""
        if (label is None) != (self.table is None):
            raise ValueError(
                f"the network has {self.classes} classes and got no label: pass label, int64 of shape (B,)"
                if label is None
                else "the network has no classes and got a label: build it with classes=, or pass label=None"
            )
        # Half precision has 8 or 11 bits: times above 256 would merge.
        t = t.to(torch.promote_types(t.dtype, torch.float32))
        half = self.waves // 2
        if self.frequencies is None:
            ratio = -math.log(1e4) / (half - self.endpoint)
            w = torch.exp(torch.arange(half, dtype=t.dtype, device=t.device) * ratio)
        else:
            w = 2 * math.pi * self.frequencies.to(t.dtype)
        angle = t[:, None] * w
        waves = torch.cat([angle.sin(), angle.cos()], dim=1).to(self.first.weight.dtype)
        embedding = self.second(F.silu(self.first(waves)))
        return embedding if self.table is None else embedding + self.table(label)


class Dropout(Checked, nn.Module):
    """x with every element zeroed with probability p and the others divided by 1 - p, in training only.

    Dropout (Srivastava et al., 2014), https://jmlr.org/papers/v15/srivastava14a.html

    Args:
        p: probability of a zero, in [0, 1).
    """

    def __init__(self, p: Rate) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Like x."""
        if not self.training or self.p == 0 or x.is_cuda:
            return F.dropout(x, self.p, self.training)
        # F.dropout draws Bernoulli numbers, on a CPU several times slower than uniform ones.
        return x * torch.rand_like(x).ge_(self.p).div_(1 - self.p)


class Attention(nn.Module):
    """x + W softmax(q k^T / sqrt(C)) v over all positions of a map, one head.

    Ho et al. (2020), https://arxiv.org/abs/2006.11239

    Args:
        channels: C, of x.
        norm: the normalisation before q, k and v, for a number of channels.
        rescale: divide the sum by sqrt 2.
        scale: of the variance of the first weights of q, k and v.
    """

    def __init__(self, channels: int, norm: Norm, rescale: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        self.rescale = rescale
        self.norm = norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        for part in self.qkv.weight.data.chunk(3):  # three layers, fused for speed: each has its own init
            nn.init.xavier_uniform_(part, gain=math.sqrt(scale))
        nn.init.zeros_(self.qkv.bias)
        self.out = init_near_zero(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Like x, (B, C, H, W)."""
        # (B, HW, C), a view where x is channels_last; of others one copy, which Linear would make beside a sum.
        flat = self.norm(x).flatten(2).transpose(1, 2).contiguous()
        rows = self.qkv(flat.flatten(0, 1))  # of a matrix, Linear is one product
        q, k, v = rows.view(len(x), 1, -1, rows.shape[1]).chunk(3, dim=-1)
        mixed = self.out(F.scaled_dot_product_attention(q, k, v).flatten(0, 2)).view_as(flat)
        return residual_sum(x, mixed.transpose(1, 2).unflatten(2, x.shape[2:]), self.rescale)


class Residual(nn.Module):
    """x + conv(dropout(act(norm(conv(act(norm x)) + W e)))), e = act(embedding), then attention or nothing.

    Ho et al. (2020), https://arxiv.org/abs/2006.11239; a 1x1 convolution is the skip connection where the channels
    change. With `resample` the block of BigGAN (Brock et al., 2019), https://arxiv.org/abs/1809.11096: both branches
    change size before their first convolution.

    Args:
        inputs: channels of x.
        outputs: channels of the result.
        embedding: width of e.
        dropout: probability of a zero, in [0, 1).
        norm: the normalisation, for a number of channels.
        attention: whether attention follows.
        rescale: divide each sum by sqrt 2.
        resample: layer without weights that changes height and width; null keeps them.
        scale: of the variance of the attention's first weights.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        embedding: int,
        dropout: float,
        norm: Norm,
        attention: bool,
        rescale: bool = False,
        resample: nn.Module | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.rescale = rescale
        self.norm1 = norm(inputs)
        self.resample = resample or nn.Identity()
        self.conv1 = init(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.shift = init(nn.Linear(embedding, outputs))
        self.norm2 = norm(outputs)
        self.dropout = Dropout(dropout)
        self.conv2 = init_near_zero(nn.Conv2d(outputs, outputs, 3, padding=1))
        same = inputs == outputs and resample is None
        self.skip = nn.Identity() if same else init(nn.Conv2d(inputs, outputs, 1))
        self.attention = Attention(outputs, norm, rescale, scale) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, outputs, H', W') from x (B, inputs, H, W) and the activated embedding (B, E), the same for all blocks."""
        h = self.resample(F.silu(self.norm1(x)))
        h = self.conv1(h) + self.shift(embedding)[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return self.attention(residual_sum(self.skip(self.resample(x)), h, self.rescale))

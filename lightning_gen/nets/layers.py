"""Layers that the networks share: initialisation, the embedding of time and label, residual and attention blocks."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-6  # of every GroupNorm: TensorFlow's default, with which Ho et al. trained; PyTorch's is 1e-5


def init(layer: nn.Module, scale: float = 1.0) -> nn.Module:
    """Weights U(-a, a) of variance scale / fan_avg, bias 0: the init of Ho et al.'s code."""
    nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(scale))
    nn.init.zeros_(layer.bias)
    return layer


def last(layer: nn.Module) -> nn.Module:
    """Init of a layer that ends a branch: scale 1e-10, which Ho et al.'s code puts where its `init_scale` is 0."""
    return init(layer, 1e-10)


class Embedding(nn.Module):
    r"""Time, and a label if there are classes, as one vector: MLP(sin(w t), cos(w t)) + table[label].

    The frequencies w run geometrically from 1 to 1e-4, both ends taken: t counts steps (DDPM: 0 to 999).

    Denoising Diffusion Probabilistic Models (Ho et al., 2020), https://arxiv.org/abs/2006.11239; the label's table
    as in Diffusion Models Beat GANs (Dhariwal and Nichol, 2021), https://arxiv.org/abs/2105.05233.
    """

    def __init__(self, waves: int, width: int, classes: int | None = None):
        super().__init__()
        if waves < 4 or waves % 2:
            raise ValueError(f"the time embedding needs an even width from 4 on, got {waves}: change channels or width")
        if classes is not None and classes < 1:
            raise ValueError(f"classes is {classes}, expected at least 1, or null for a network without labels")
        self.waves, self.classes = waves, classes
        self.first = init(nn.Linear(waves, width))
        self.second = init(nn.Linear(width, width))
        self.table = None if classes is None else nn.Embedding(classes, width)

    def forward(self, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Embedding of t (B,) and label (B,), (B, width)."""
        if (label is None) != (self.table is None):
            raise ValueError(
                f"the network knows {self.classes} classes and got no label: pass label, int64 of shape (B,)"
                if label is None
                else "the network knows no classes and got a label: build it with classes=, or pass label=None"
            )
        # Half precision has 8 or 11 bits: times above 256 would merge.
        t = t.to(torch.promote_types(t.dtype, torch.float32))
        half = self.waves // 2
        w = torch.exp(torch.arange(half, dtype=t.dtype, device=t.device) * (-math.log(1e4) / (half - 1)))
        angle = t[:, None] * w
        waves = torch.cat([angle.sin(), angle.cos()], dim=1).to(self.first.weight.dtype)
        embedding = self.second(F.silu(self.first(waves)))
        return embedding if self.table is None else embedding + self.table(label)


class Dropout(nn.Module):
    """x with every element zeroed with probability p and the others divided by 1 - p, in training only.

    Dropout (Srivastava et al., 2014), https://jmlr.org/papers/v15/srivastava14a.html
    """

    def __init__(self, p: float):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout is {p}, expected a probability in [0, 1)")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Like x."""
        if not self.training or self.p == 0 or x.is_cuda:
            return F.dropout(x, self.p, self.training)
        # PyTorch's own draws Bernoulli numbers, on a CPU several times slower than uniform ones.
        return x * torch.rand_like(x).ge_(self.p).div_(1 - self.p)


class Attention(nn.Module):
    """x + W softmax(q k^T / sqrt(C)) v over all positions of a map, one head (Ho et al., 2020)."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=EPS)
        self.qkv = nn.Linear(channels, 3 * channels)
        for part in self.qkv.weight.data.chunk(3):  # three layers of their own, fused for speed
            nn.init.xavier_uniform_(part)
        nn.init.zeros_(self.qkv.bias)
        self.out = last(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Like x, (B, C, H, W)."""
        flat = self.norm(x).flatten(2).transpose(1, 2)  # (B, HW, C): a view when x is channels_last
        q, k, v = self.qkv(flat).unsqueeze(1).chunk(3, dim=-1)
        mixed = self.out(F.scaled_dot_product_attention(q, k, v).squeeze(1))
        return x + mixed.transpose(1, 2).unflatten(2, x.shape[2:])


class Residual(nn.Module):
    """x + conv(dropout(act(norm(conv(act(norm x)) + W act(e))))), e the embedding; then attention where asked.

    Ho et al. (2020), https://arxiv.org/abs/2006.11239; a 1x1 convolution carries x where the channels change.
    """

    def __init__(self, inputs: int, outputs: int, embedding: int, dropout: float, groups: int, attention: bool):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, eps=EPS)
        self.conv1 = init(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.shift = init(nn.Linear(embedding, outputs))
        self.norm2 = nn.GroupNorm(groups, outputs, eps=EPS)
        self.dropout = Dropout(dropout)
        self.conv2 = last(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = init(nn.Conv2d(inputs, outputs, 1)) if inputs != outputs else nn.Identity()
        self.attention = Attention(outputs, groups) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, outputs, H, W) from x (B, inputs, H, W) and the embedding (B, E)."""
        h = self.conv1(F.silu(self.norm1(x))) + self.shift(F.silu(embedding))[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return self.attention(self.skip(x) + h)


class Downsample(nn.Module):
    """Halves height and width: a 3x3 convolution of stride 2 (Ho et al., 2020)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = init(nn.Conv2d(channels, channels, 3, stride=2))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, C, H/2, W/2)."""
        # TensorFlow's SAME padding of an even size at stride 2: nothing before, one after.
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles height and width: nearest neighbour, then a 3x3 convolution (Ho et al., 2020)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = init(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, C, 2H, 2W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))

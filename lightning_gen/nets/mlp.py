"""A residual multilayer perceptron for points and other short vectors."""

from math import prod

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_gen.nets.layers import Embedding, Waves, init, init_near_zero
from lightning_gen.options import Checked, Count, Positive, Shape


class MLP(Checked, nn.Module):
    """Residual layers over the flattened x, each h + W2 act(W1 act(h) + U act(e)), e the embedding of t and label.

    The time embedding and, with linear layers for convolutions, the blocks are those of DDPM's U-Net (Ho et al., 2020),
    https://arxiv.org/abs/2006.11239

    Args:
        shape: of one x, (D,) or (C, H, W).
        width: units of a layer, and waves of the time embedding: even, at least 4.
        depth: residual layers.
        classes: number of labels; null for a network without labels.
        scale: factor of x; at 1 the initial network is too smooth for structure finer than about 1.
    """

    def __init__(
        self,
        shape: Shape,
        width: Waves = 128,
        depth: Count = 3,
        classes: Count | None = None,
        scale: Positive = 1.0,
    ) -> None:
        super().__init__()
        self.shape, self.classes, self.scale = tuple(shape), classes, scale
        size = prod(shape)
        self.embedding = Embedding(width, width, classes)
        self.first = init(nn.Linear(size, width))
        self.inner = nn.ModuleList(init(nn.Linear(width, width)) for _ in range(depth))
        self.shifts = nn.ModuleList(init(nn.Linear(width, width)) for _ in range(depth))
        self.outer = nn.ModuleList(init_near_zero(nn.Linear(width, width)) for _ in range(depth))
        self.last = init_near_zero(nn.Linear(width, size))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Like x (B, *shape); t (B,) in steps; label (B,) int64 if the network has classes."""
        embedding = F.silu(self.embedding(t, label))
        h = self.first(self.scale * x.flatten(1))
        for inner, shift, outer in zip(self.inner, self.shifts, self.outer, strict=True):
            h = h + outer(F.silu(inner(F.silu(h)) + shift(embedding)))
        return self.last(F.silu(h)).view_as(x)

"""A causal Transformer over the values of x, as one sequence."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_gen.nets.causal import Causal
from lightning_gen.options import Count, Levels, Rate, Shape


@dataclass
class Cache:
    """Keys and values of all sites so far, of each block (B, heads, D, channels of a head)."""

    keys: list[Tensor]
    values: list[Tensor]


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)).

    Args:
        channels: of a site.
        heads: of the attention.
        expansion: hidden units of the MLP over channels.
        dropout: probability that a change of x is dropped, elementwise.
    """

    def __init__(self, channels: int, heads: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, expansion * channels), nn.GELU(), nn.Linear(expansion * channels, channels)
        )
        self.dropout = nn.Dropout(dropout)

    def queries(self, h: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, (B, heads, S, channels of a head) each, of h (B, S, channels)."""
        return tuple(self.qkv(self.norms[0](h)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4))

    def changed(self, h: Tensor, attended: Tensor) -> Tensor:
        """h after both changes, (B, S, channels), given the attention's (B, heads, S, channels of a head)."""
        h = h + self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        return h + self.dropout(self.mlp(self.norms[1](h)))

    def forward(self, h: Tensor) -> Tensor:
        """h after the block, (B, S, channels)."""
        return self.changed(h, F.scaled_dot_product_attention(*self.queries(h), is_causal=True))


class CausalTransformer(Causal):
    """Each site attends to itself and the sites before; its input is the value of the site before.

    Every value is a site, in colour red, green and blue one after the other. Sites have learned embeddings.
    Image GPT (Chen et al., 2020), https://proceedings.mlr.press/v119/chen20s.html; Attention is all you need (Vaswani
    et al., 2017), https://arxiv.org/abs/1706.03762

    Args:
        shape, levels, logistics: those of Causal.
        channels: of a site.
        depth: blocks.
        heads: of the attention, a divisor of channels.
        expansion: hidden units of a block's MLP, in units of channels.
        dropout: probability that a change by a block is dropped, elementwise.
    """

    def __init__(
        self,
        shape: Shape,
        levels: Levels = 2,
        logistics: Count | None = None,
        channels: Count = 128,
        depth: Count = 4,
        heads: Count = 4,
        expansion: Count = 4,
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__(shape, levels, logistics)
        if channels % heads:
            raise ValueError(f"net.heads is {heads} for {channels} channels, expected a divisor of them: change one")
        self.value = nn.Embedding(levels + 1, channels)  # the last is that of no value, before the first site
        self.site = nn.Embedding(self.sites, channels)
        for table in (self.value, self.site):
            nn.init.normal_(table.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(channels, heads, expansion, dropout) for _ in range(depth))
        self.norm, self.last = nn.LayerNorm(channels), nn.Linear(channels, self.law.size)

    def embedded(self, x: Tensor, start: int, stop: int) -> Tensor:
        """The input (B, stop - start, channels) of sites, by the values before them in sequences x (B, D)."""
        before = F.pad(x, (1, 0), value=self.levels)[:, start:stop]
        return self.value(before.long()) + self.site.weight[start:stop]

    def forward(self, x: Tensor, ordering: int = 0) -> Tensor:
        """Outputs at all sites, (B, D, size), of sequences x (B, D)."""
        h = self.embedded(x, 0, self.sites)
        for block in self.blocks:
            h = block(h)
        return self.last(self.norm(h))

    def begin(self, x: Tensor, ordering: int = 0) -> Cache:
        """Room for the keys and values of all sites."""
        channels, heads = self.value.embedding_dim, self.blocks[0].heads
        shape, like = (len(x), heads, self.sites, channels // heads), self.value.weight
        keys, values = ([like.new_zeros(shape) for _ in self.blocks] for _ in range(2))
        return Cache(keys, values)

    def step(self, cache: Cache, x: Tensor, k: int) -> Tensor:
        """Outputs at the k-th site, (B, size): its query against the keys that are kept."""
        h = self.embedded(x, k, k + 1)
        for block, keys, values in zip(self.blocks, cache.keys, cache.values, strict=True):
            query, keys[:, :, k : k + 1], values[:, :, k : k + 1] = block.queries(h)
            h = block.changed(h, F.scaled_dot_product_attention(query, keys[:, :, : k + 1], values[:, :, : k + 1]))
        return self.last(self.norm(h)).squeeze(1)

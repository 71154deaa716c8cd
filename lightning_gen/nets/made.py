"""A masked perceptron: all conditionals p(x_i | x_<i) by one pass."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_gen.nets.causal import Causal, scaled
from lightning_gen.nets.layers import init
from lightning_gen.options import Count, Levels, Natural, Shape
from lightning_gen.randomness import generator


def mask(compare: Callable[..., Tensor], after: Tensor, before: Tensor, weight: Tensor) -> Tensor:
    """1 where compare(after_i, before_j), else 0, (len(after), len(before)), in the dtype of the weight that it masks.

    Comparison and product of floats, in which degrees are exact, take less time than of whole numbers and truth values.
    """
    ones = torch.empty(len(after), len(before), device=weight.device, dtype=weight.dtype)
    return compare(after.float()[:, None], before.float(), out=ones)


@dataclass
class Cache:
    """Masked weights of one ordering, and the hidden units of sequences that are filled.

    Args:
        order: the sites in the order of filling.
        weights: masked, of each layer, the output layer's (D, size, H).
        direct: masked, from input to output, (D, size, D); None without direct links.
        units: of each hidden layer, for each degree the units with it.
        hidden: values of each hidden layer, (B, H); those of units that do not have their inputs yet are 0.
    """

    order: list[int]
    weights: list[Tensor]
    direct: Tensor | None
    units: list[list[Tensor]]
    hidden: list[Tensor]


class MADE(Causal):
    """ReLU layers with weights masked by degrees m: from unit j to unit i where m_i >= m_j, to an output m_i > m_j.

    Inputs have their position in the ordering as degree; hidden units a random one, at least the least of the layer
    before. Ordering 0 is that of x, others are random, each with degrees of its own.
    MADE (Germain et al., 2015), https://arxiv.org/abs/1502.03509

    Args:
        shape, levels, logistics: those of Causal.
        width: units of a hidden layer.
        depth: hidden layers.
        orderings: number of orderings, over which p is averaged.
        direct: whether there are links from inputs to outputs.
        seed: of orderings and degrees.
    """

    def __init__(
        self,
        shape: Shape,
        levels: Levels = 2,
        logistics: Count | None = None,
        width: Count = 500,
        depth: Count = 1,
        orderings: Count = 1,
        direct: bool = True,
        seed: Natural = 0,
    ) -> None:
        super().__init__(shape, levels, logistics)
        self.orderings, d = orderings, self.sites
        sizes = [d] + [width] * depth
        self.layers = nn.ModuleList(init(nn.Linear(*pair)) for pair in zip(sizes, sizes[1:], strict=False))
        self.last = init(nn.Linear(width, d * self.law.size))
        self.direct = nn.Linear(d, d * self.law.size, bias=False) if direct else None
        if direct:
            nn.init.xavier_uniform_(self.direct.weight)
        positions, degrees = [], []
        for k in range(orderings):
            source = generator(seed, "masks", k)
            order = torch.randperm(d, generator=source, device="cpu") if k else torch.arange(d, device="cpu")
            positions.append((order.argsort() + 1).tolist())
            degrees.append(self.hidden_degrees(width, depth, source))
        self.register_buffer("positions", torch.tensor(positions))  # of each input, 1..D, (K, D)
        self.register_buffer("degrees", torch.tensor(degrees))  # of the hidden units, (K, depth, width)

    def hidden_degrees(self, width: int, depth: int, source: torch.Generator) -> list[list[int]]:
        """Degrees of the hidden units, uniform from the least of the layer before to D - 1."""
        rows, least, most = [], 1, max(self.sites - 1, 1)
        for _ in range(depth):
            rows.append(torch.randint(least, most + 1, (width,), generator=source, device="cpu").tolist())
            least = min(rows[-1])
        return rows

    def order(self, ordering: int) -> list[int]:
        """The sites in the order of their positions."""
        return self.positions[ordering].argsort().tolist()

    def masked(self, ordering: int) -> tuple[list[Tensor], Tensor | None]:
        """The masked weights of the layers, the last (D, size, H), and those of the direct links (D, size, D)."""
        position, degrees = self.positions[ordering], [self.positions[ordering], *self.degrees[ordering]]
        weights = [
            layer.weight * mask(torch.ge, after, before, layer.weight)
            for layer, before, after in zip(self.layers, degrees, degrees[1:], strict=False)
        ]
        shape = (self.sites, self.law.size, -1)
        last = self.last.weight.view(shape)
        weights.append(last * mask(torch.gt, position, degrees[-1], last).unsqueeze(1))
        if self.direct is None:
            return weights, None
        direct = self.direct.weight.view(shape)
        return weights, direct * mask(torch.gt, position, position, direct).unsqueeze(1)

    def forward(self, x: Tensor, ordering: int = 0) -> Tensor:
        """Outputs at all sites, (B, D, size), of sequences x (B, D)."""
        (*weights, last), direct = self.masked(ordering)
        x = h = scaled(x, self.levels)
        for layer, weight in zip(self.layers, weights, strict=True):
            h = F.relu(F.linear(h, weight, layer.bias))
        out = F.linear(h, last.flatten(0, 1), self.last.bias)
        if direct is not None:
            out = out + F.linear(x, direct.flatten(0, 1))
        return out.view(len(x), self.sites, self.law.size)

    def begin(self, x: Tensor, ordering: int = 0) -> Cache:
        """The masked weights, and hidden units of 0."""
        weights, direct = self.masked(ordering)
        units = [[(degrees == j).nonzero().squeeze(1) for j in range(self.sites)] for degrees in self.degrees[ordering]]
        hidden = [x.new_zeros(len(x), layer.out_features) for layer in self.layers]
        return Cache(self.order(ordering), weights, direct, units, hidden)

    def step(self, cache: Cache, x: Tensor, k: int) -> Tensor:
        """Outputs at the k-th site, (B, size): each hidden unit is computed once, when all its inputs are known."""
        inputs, site = scaled(x, self.levels), cache.order[k]
        below = inputs
        for layer, weight, units, hidden in zip(self.layers, cache.weights, cache.units, cache.hidden, strict=False):
            if len(ready := units[k]):
                hidden[:, ready] = F.relu(F.linear(below, weight[ready], layer.bias[ready]))
            below = hidden
        out = F.linear(below, cache.weights[-1][site], self.last.bias.view(self.sites, -1)[site])
        return out if cache.direct is None else out + F.linear(inputs, cache.direct[site])

"""Autoregressive models: log p(x) = sum_i log p(x_i | x_<i) over whole numbers, exactly."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_gen.models.base import Energy, Normalised
from lightning_gen.models.support import BINARY, levels
from lightning_gen.nets.causal import Causal
from lightning_gen.randomness import Source, uniform


@dataclass
class Group:
    """Sequences that are filled in one ordering.

    Args:
        rows: which of the batch.
        order: their sites in the order of filling.
        cache: what the network keeps of them.
        outputs: of the network at the present site, (n, size).
    """

    rows: Tensor | slice
    order: list[int]
    cache: Any
    outputs: Tensor | None = None


class Autoregressive(Normalised):
    """p(x) = mean over orderings k of prod_i p_k(x_i | the values before x_i in ordering k), x in {0, ..., K - 1}.

    An average of probabilities, never of logits. A neural autoregressive distribution estimator (Larochelle & Murray,
    2011), https://proceedings.mlr.press/v15/larochelle11a.html; orderings: MADE (Germain et al., 2015),
    https://arxiv.org/abs/1502.03509

    Args:
        net: gives the outputs of which the law of each value is made.
    """

    def __init__(self, net: Causal) -> None:
        super().__init__()
        self.net, self.support = net, BINARY if net.levels == 2 else levels(net.levels)
        self.channels = net.shape[0] if len(net.shape) == 3 else 1

    def networks(self) -> list[nn.Module]:
        """The one network."""
        return [self.net]

    def sequence(self, x: Tensor) -> Tensor:
        """x (B, *shape) as (B, D): pixel by pixel, in a pixel channel by channel."""
        return x.reshape(len(x), self.channels, -1).transpose(1, 2).reshape(len(x), -1)

    def position(self, value: int) -> int:
        """Where a value of the sequence stands in the flat x."""
        pixel, channel = divmod(value, self.channels)
        return channel * (math.prod(self.net.shape) // self.channels) + pixel

    def log_conditionals(self, x: Tensor, ordering: int = 0) -> Tensor:
        """log p(x_i | the values before x_i), nats, (B, D), in the order of `sequence`."""
        x = self.sequence(x)
        out = precise(self.net(x, ordering))
        return self.net.law.log_prob(out, x.view(len(x), -1, self.net.joint)).flatten(1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), nats, (B,): log mean_k p_k(x)."""
        each = self.log_joint(x)
        return each.logsumexp(0) - math.log(len(each))

    def log_joint(self, x: Tensor) -> Tensor:
        """log p_k(x) by each ordering, nats, (K, B)."""
        return torch.stack([self.log_conditionals(x, k).sum(1) for k in range(self.net.orderings)])

    def component(self, x: Tensor, generator: torch.Generator | None = None) -> Energy:
        """-log p_k of each row's ordering k ~ p(k|x): one pass of the network in the place of one an ordering."""
        if self.net.orderings == 1:
            return self
        return InOrdering(self, torch.multinomial(self.log_joint(x).T.softmax(1), 1, generator=generator)[:, 0])

    def begin(self, x: Tensor, source: Source = None) -> list[Group]:
        """The state of filling x (B, *shape); the ordering of each sample is drawn."""
        n = self.net.orderings
        return self.groups(x, None if n == 1 else (n * uniform((len(x),), source, x.device)).long())

    def groups(self, x: Tensor, orderings: Tensor | None) -> list[Group]:
        """The state of filling x (B, *shape), each sample in its ordering of (B,); None: all in the first."""
        sequence = self.sequence(x)
        if orderings is None:
            return [Group(slice(None), self.net.order(0), self.net.begin(sequence, 0))]
        groups = []
        for k in orderings.unique().tolist():
            rows = (orderings == k).nonzero().squeeze(1)
            groups.append(Group(rows, self.net.order(k), self.net.begin(sequence[rows], k)))
        return groups

    def table(self, groups: list[Group], x: Tensor, i: int) -> Tensor:
        """log p of each level of the i-th value of each sample's ordering given those before, nats, (B, K).

        Called for i = 0, 1, ... in turn; the network's part of the work is done at the first value of a site.
        """
        return self.by_law(self.net.law.table, groups, x, i)

    def by_law(self, law: Callable[[Tensor, Tensor], Tensor], groups: list[Group], x: Tensor, i: int) -> Tensor:
        """A method of the law, of the i-th value of each sample's ordering given those before, (B, ...)."""
        (k, channel), sequence, found = divmod(i, self.net.joint), self.sequence(x), []
        for group in groups:
            values, first = sequence[group.rows], group.order[k] * self.net.joint
            if channel == 0:
                group.outputs = precise(self.net.step(group.cache, values, k))
            found.append(law(group.outputs, values[:, first : first + channel]))
        if len(groups) == 1:
            return found[0]
        return torch.cat(found)[torch.cat([group.rows for group in groups]).argsort()]

    def places(self, groups: list[Group], x: Tensor, i: int) -> Tensor:
        """Where the i-th value of each sample's ordering stands in the flat x, (B, 1)."""
        k, channel = divmod(i, self.net.joint)
        places = torch.empty(len(x), 1, dtype=torch.long, device=x.device)
        for group in groups:
            places[group.rows] = self.position(group.order[k] * self.net.joint + channel)
        return places

    def fill(self, groups: list[Group], x: Tensor, i: int, source: Source = None) -> Tensor:
        """x (B, *shape) with the i-th value of each sample's ordering drawn given those before, i = 0, 1, ..."""
        u = uniform((len(x), 1), source, x.device, x.dtype)
        drawn = (self.by_law(self.net.law.cumulative, groups, x, i) <= u).sum(-1, keepdim=True).to(x.dtype)
        return x.flatten(1).scatter(1, self.places(groups, x, i), drawn).view_as(x)

    @torch.no_grad()
    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """x ~ p, `shape` = (B, ...)."""
        like = next(self.net.parameters())
        x = torch.zeros(shape, device=like.device, dtype=like.dtype)
        groups = self.begin(x, generator)
        for i in range(math.prod(self.net.shape)):
            x = self.fill(groups, x, i, generator)
        return x


def precise(out: Tensor) -> Tensor:
    """A network's outputs in float32 or better, which tell all levels apart: bfloat16 of autocast has but 8 bits."""
    return out.to(torch.promote_types(out.dtype, torch.float32))


class InOrdering(Energy):
    """-log p_k(x), each row in an ordering of its own.

    Args:
        model: of several orderings.
        orderings: k of each row, (B,); of B * m rows, of each m that follow each other.
    """

    def __init__(self, model: Autoregressive, orderings: Tensor) -> None:
        super().__init__()
        self.model, self.orderings, self.support = model, orderings, model.support

    def networks(self) -> list[nn.Module]:
        """The one network."""
        return self.model.networks()

    def energy(self, x: Tensor) -> Tensor:
        """-log p_k(x), nats, (B,)."""
        each = self.orderings.repeat_interleave(len(x) // len(self.orderings))
        found = x.new_empty(len(x))
        for k in each.unique().tolist():
            found[each == k] = -self.model.log_conditionals(x[each == k], k).sum(1).to(found)
        return found

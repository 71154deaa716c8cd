"""Restricted Boltzmann machines: energies whose hidden units are summed out, with gradients in closed form."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Gt, Le
from torch import Tensor, nn

from lightning_gen.models.base import Conditionals, Energy
from lightning_gen.models.support import BINARY
from lightning_gen.options import Count, Positive
from lightning_gen.randomness import bernoulli

ENUMERABLE = 20  # the most units whose 2^units states are enumerated


def categorical(logits: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """n independent indices, (n,), with probabilities softmax(logits), logits (K,)."""
    return torch.multinomial(logits.softmax(0), n, replacement=True, generator=generator)


def states(units: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64) -> Tensor:
    """All 2^units binary vectors, (2^units, units); ValueError above 20 units."""
    if units > ENUMERABLE:
        raise ValueError(
            f"the RBM has {units} units on a side, expected at most {ENUMERABLE} to enumerate the states: "
            "estimate log Z by annealed importance sampling, or draw by a sampler"
        )
    number = torch.arange(2**units, device=device)
    return (number[:, None] >> torch.arange(units, device=device) & 1).to(dtype)


class HiddenUnits(Energy, Conditionals):
    """Base of the RBMs: binary hidden units h, and the free energy E(v) = -log sum_h exp(-E(v, h)).

    Parameters are W (D, H), c (H,) and those of the visible units.
    How to center deep Boltzmann machines (Melchior et al., 2016), https://jmlr.org/papers/v17/14-237.html

    Args:
        shape: shape of v, (C, H, W), or the number of visible units D.
        hidden: number of hidden units H, >= 1.
        std: standard deviation of the initial weights, > 0.
        centred: whether the gradient is that of an RBM in v - offset_v and h - offset_h; the density is the same.
        shift: share of each batch in the running means of v and h that are the offsets, in (0, 1].
    """

    names: tuple[str, ...]  # of the parameters

    def __init__(
        self,
        shape: Count | Sequence[Count],
        hidden: Count,
        std: Positive,
        centred: bool,
        shift: Annotated[float, Gt(0), Le(1)],
    ) -> None:
        Conditionals.__init__(self)
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        visible, self.centred, self.shift = math.prod(self.shape), centred, shift
        # Stored column by column: the product of its gradient is faster in this layout.
        self.W = nn.Parameter((std * torch.randn(visible, hidden)).T.contiguous().T)
        self.c = nn.Parameter(torch.zeros(hidden))
        if centred:
            self.register_buffer("offset_v", torch.zeros(visible))
            self.register_buffer("offset_h", torch.full((hidden,), 0.5))

    @abstractmethod
    def free_energy(self, v: Tensor, logits: Tensor) -> Tensor:
        """E(v), nats, (B,), from v and the logits of its hidden units, (B, H)."""

    @abstractmethod
    def gradient(self, v: Tensor, logits: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """sum_i weight_i dE(v_i) / d theta for each parameter by name, in closed form; weight is (B,).

        With centring the weights have to add up to 0, as those of data against model samples do.
        """

    @abstractmethod
    def exact_log_z(self) -> Tensor:
        """log Z, nats, (), as a sum over the states of one side; ValueError above 20 units."""

    def tractable(self) -> bool:
        """Whether the hidden states can be enumerated: at most 20 units."""
        return len(self.c) <= ENUMERABLE

    def log_z(self) -> Tensor | None:
        """log Z, nats, (), where it is tractable; else None."""
        return self.exact_log_z() if self.tractable() else None

    def energy(self, x: Tensor) -> Tensor:
        """E(x), nats, (B,)."""
        return self.free_energy(x, self.logits(x))

    def why_unnormalisable(self) -> None:
        """None: Z is a sum over finitely many states or Gaussians."""
        return None

    @torch.no_grad()
    def update_offsets(self, v: Tensor, hidden: Tensor) -> None:
        """Update the offsets, running means of v (B, *shape) and of p(h|v) (B, H)."""
        self.offset_v.lerp_(v.flatten(1).mean(0), self.shift)
        self.offset_h.lerp_(hidden.mean(0), self.shift)

    def statistics(self, rows: Tensor, hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-sum weight (r hT, r, h), relative to the offsets with centring; r (B, D), h (B, H), weight (B,)."""
        negative = -weight
        weighted = hidden * negative[:, None]
        w, b, c = (weighted.T @ rows).T, negative @ rows, weighted.sum(0)
        if self.centred:
            mu, lam = self.offset_v, self.offset_h
            w = w - torch.outer(mu, c) - torch.outer(b, lam)
            b, c = b - w @ lam, c - w.T @ mu
        return w, b, c


class RBM(HiddenUnits):
    """Binary: E(v, h) = -bT v - cT h - vT W h, so p(h_j=1|v) = sigmoid(c + WT v)_j, p(v_i=1|h) = sigmoid(b + W h)_i.

    E(v) = -bT v - sum_j softplus(c + WT v)_j.
    Smolensky (1986); Training products of experts (Hinton, 2002), https://doi.org/10.1162/089976602760128018

    Args:
        shape, hidden, std, centred, shift: those of HiddenUnits.
    """

    support = BINARY
    names = ("W", "b", "c")

    def __init__(
        self,
        shape: Count | Sequence[Count],
        hidden: Count,
        std: Positive = 0.01,
        centred: bool = False,
        shift: Annotated[float, Gt(0), Le(1)] = 0.01,
    ) -> None:
        super().__init__(shape, hidden, std, centred, shift)
        self.b = nn.Parameter(torch.zeros(math.prod(self.shape)))

    def tractable(self) -> bool:
        """Whether the states of the smaller side can be enumerated: at most 20 units."""
        return min(len(self.b), len(self.c)) <= ENUMERABLE

    def logits(self, v: Tensor) -> Tensor:
        """c + WT v, (B, H)."""
        return torch.addmm(self.c, v.flatten(1), self.W)

    def free_energy(self, v: Tensor, logits: Tensor) -> Tensor:
        """-bT v - sum_j softplus(logits_j), nats, (B,)."""
        return -(v.flatten(1) @ self.b) - F.softplus(logits).sum(1)

    def joint_energy(self, v: Tensor, h: Tensor) -> Tensor:
        """E(v, h), nats, (B,)."""
        rows = v.flatten(1)
        return -(rows @ self.b) - h @ self.c - ((rows @ self.W) * h).sum(1)

    def visible(self, h: Tensor) -> Tensor:
        """p(v=1|h), (B, *shape)."""
        return torch.addmm(self.b, h, self.W.T).sigmoid_().view(-1, *self.shape)

    def sample_visible(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """v ~ p(v|h), 0 or 1, (B, *shape)."""
        return bernoulli(self.visible(h), generator)

    def prior(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Independent values with p(v=1) = 1/2, (B, *shape): the start of chains that do not start from data."""
        device = self.W.device if generator is None else generator.device
        return bernoulli(torch.full(shape, 0.5, device=device, dtype=self.W.dtype), generator)

    @torch.no_grad()
    def gradient(self, v: Tensor, logits: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """sum_i weight_i times dE/dW = -v p(h|v)T, dE/db = -v, dE/dc = -p(h|v), by name."""
        return dict(zip(self.names, self.statistics(v.flatten(1), logits.sigmoid(), weight), strict=True))

    def exact_log_z(self) -> Tensor:
        """log Z, nats, (), as a sum over the states of the smaller side; ValueError above 20 units."""
        W, b, c = self.W.double(), self.b.double(), self.c.double()
        if len(b) < len(c):
            W, b, c = W.T, c, b
        parts = [h @ c + F.softplus(b + h @ W.T).sum(1) for h in states(len(c), W.device).split(4096)]
        return torch.logsumexp(torch.cat(parts), 0)

    @torch.no_grad()
    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Independent exact samples v, (n, *shape), by enumeration of the smaller side; ValueError above 20 units."""
        n = shape[0]
        W, b, c = self.W.double(), self.b.double(), self.c.double()
        if len(c) <= len(b):
            h = states(len(c), W.device)
            chosen = categorical(h @ c + F.softplus(b + h @ W.T).sum(1), n, generator)
            return self.sample_visible(h[chosen].to(self.W.dtype), generator)
        v = states(len(b), W.device).to(self.W.dtype)
        return v[categorical(-self.energy(v.view(-1, *self.shape)).double(), n, generator)].view(n, *self.shape)

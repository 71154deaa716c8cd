"""Restricted Boltzmann machines: energies whose hidden units are summed out, with gradients in closed form."""

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_gen.models.energy import EnergyModel
from lightning_gen.process import Clean

ENUMERABLE = 20  # units of one side whose states are summed over one by one


def bernoulli(probability: Tensor, generator: torch.Generator | None) -> Tensor:
    """0 or 1 of each probability; `rand < p` takes less than half of torch.bernoulli's time on a CPU.

    There float32's 24 bits are taken from either half of 64 random ones: torch.rand's law in two thirds of its time.
    """
    if probability.device.type != "cpu" or probability.dtype != torch.float32:
        draw = torch.rand(probability.shape, generator=generator, device=probability.device, dtype=probability.dtype)
        return draw.lt_(probability)
    halves = torch.empty((probability.numel() + 1) // 2, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    bits = halves.view(torch.int32)[: probability.numel()].bitwise_and_(2**24 - 1)
    return bits.to(torch.float32).mul_(2**-24).view(probability.shape).lt_(probability)


def states(units: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64) -> Tensor:
    """All 2^units binary vectors, (2^units, units); ValueError above 20 units."""
    if units > ENUMERABLE:
        raise ValueError(f"{units} units have too many states to list: at most {ENUMERABLE}")
    number = torch.arange(2**units, device=device)
    return (number[:, None] >> torch.arange(units, device=device) & 1).to(dtype)


class HiddenUnits(EnergyModel):
    """What both machines share: binary hidden units h given v, and E(v) = free energy with h summed out.

    Parameters are W (D, H), c (H,) and those of the visible side. Where `centred`, the gradient is the one of a machine
    whose units are counted from their offsets, of which running means are kept: the model itself does not change.
    How to center deep Boltzmann machines (Melchior et al., 2016), https://jmlr.org/papers/v17/14-237.html
    """

    binary = False
    names: tuple[str, ...]  # of the parameters

    def __init__(self, shape: int | Sequence[int], hidden: int, std: float, centred: bool, shift: float) -> None:
        super().__init__(Clean())
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if min(self.shape) < 1 or hidden < 1 or not std > 0 or not 0 < shift <= 1:
            raise ValueError(
                f"{type(self).__name__} needs a shape and hidden units of at least 1, std > 0, 0 < shift <= 1; "
                f"got {self.shape}, {hidden}, {std}, {shift}"
            )
        visible, self.centred, self.shift = math.prod(self.shape), centred, shift
        # Columns lie in one piece: its gradient is the faster product that way round.
        self.W = nn.Parameter((std * torch.randn(visible, hidden)).T.contiguous().T)
        self.c = nn.Parameter(torch.zeros(hidden))
        if centred:
            self.register_buffer("offset_v", torch.zeros(visible))
            self.register_buffer("offset_h", torch.full((hidden,), 0.5))

    @abstractmethod
    def field(self, v: Tensor) -> Tensor:
        """What the hidden units see, log p(h=1|v) / p(h=0|v), (B, H): one matrix product."""

    @abstractmethod
    def free_energy(self, v: Tensor, field: Tensor) -> Tensor:
        """E(v), nats, (B,), where the field is known already."""

    @abstractmethod
    def visible(self, h: Tensor) -> Tensor:
        """E[v|h], (B, *shape): one matrix product."""

    @abstractmethod
    def sample_visible(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """v ~ p(v|h), (B, *shape)."""

    @abstractmethod
    def gradient(self, v: Tensor, field: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """sum_i weight_i dE(v_i) / d theta by the name of each parameter, no graph needed; weight is (B,).

        A centred machine's only where the weights add up to 0, as data against model do.
        """

    def energy(self, x: Tensor) -> Tensor:
        """E(x), nats, (B,)."""
        return self.free_energy(x, self.field(x))

    @property
    def enumerable(self) -> bool:
        """Whether the states of the hidden side are few enough to be listed."""
        return len(self.c) <= ENUMERABLE

    def normalisable(self) -> str:
        """Empty: there are finitely many states, or a Gaussian for each of finitely many."""
        return ""

    def hidden(self, v: Tensor) -> Tensor:
        """p(h=1|v), (B, H)."""
        return self.field(v).sigmoid()

    def sample_hidden(self, v: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """h ~ p(h|v), (B, H)."""
        return bernoulli(self.hidden(v), generator)

    @torch.no_grad()
    def move_offsets(self, v: Tensor, hidden: Tensor) -> None:
        """Let the offsets follow the data's means, v (B, *shape) and p(h|v) (B, H)."""
        self.offset_v.lerp_(v.flatten(1).mean(0), self.shift)
        self.offset_h.lerp_(hidden.mean(0), self.shift)

    def statistics(self, rows: Tensor, hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-sum weight (r hT, r, h), counted from the offsets where the machine is centred; r (B, D)."""
        weighted = hidden * -weight[:, None]
        w, b, c = (weighted.T @ rows).T, -weight @ rows, weighted.sum(0)
        if self.centred:
            mu, lam = self.offset_v, self.offset_h
            w = w - torch.outer(mu, c) - torch.outer(b, lam)
            b, c = b - w @ lam, c - w.T @ mu
        return w, b, c


class RBM(HiddenUnits):
    """Binary: E(v, h) = -bT v - cT h - vT W h, so p(h_j=1|v) = sigmoid(c + WT v)_j, p(v_i=1|h) = sigmoid(b + W h)_i.

    E(v) = -bT v - sum_j softplus(c + WT v)_j.
    Smolensky (1986); Training products of experts (Hinton, 2002), https://doi.org/10.1162/089976602760128018
    """

    binary = True
    names = ("W", "b", "c")

    def __init__(
        self,
        shape: int | Sequence[int],
        hidden: int,
        std: float = 0.01,
        centred: bool = False,
        shift: float = 0.01,
    ) -> None:
        super().__init__(shape, hidden, std, centred, shift)
        self.b = nn.Parameter(torch.zeros(math.prod(self.shape)))

    @property
    def enumerable(self) -> bool:
        """Whether the states of the smaller side are few enough to be listed."""
        return min(len(self.b), len(self.c)) <= ENUMERABLE

    def field(self, v: Tensor) -> Tensor:
        """c + WT v, (B, H)."""
        return torch.addmm(self.c, v.flatten(1), self.W)

    def free_energy(self, v: Tensor, field: Tensor) -> Tensor:
        """-bT v - sum_j softplus(field_j), nats, (B,)."""
        return -(v.flatten(1) @ self.b) - F.softplus(field).sum(1)

    def joint_energy(self, v: Tensor, h: Tensor) -> Tensor:
        """E(v, h), nats, (B,)."""
        rows = v.flatten(1)
        return -(rows @ self.b) - h @ self.c - ((rows @ self.W) * h).sum(1)

    def visible(self, h: Tensor) -> Tensor:
        """p(v=1|h), (B, *shape)."""
        return torch.addmm(self.b, h, self.W.T).sigmoid().view(-1, *self.shape)

    def sample_visible(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """v ~ p(v|h), 0 or 1, (B, *shape)."""
        return bernoulli(self.visible(h), generator)

    def prior(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Fair coins, (B, *shape): where chains begin that know no data."""
        device = self.W.device if generator is None else generator.device
        return bernoulli(torch.full(shape, 0.5, device=device, dtype=self.W.dtype), generator)

    @torch.no_grad()
    def gradient(self, v: Tensor, field: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """dE/dW = -v p(h|v)T, dE/db = -v, dE/dc = -p(h|v), weighted and summed."""
        return dict(zip(self.names, self.statistics(v.flatten(1), field.sigmoid(), weight), strict=True))

    def log_partition(self) -> Tensor:
        """log Z, nats, (), summing over the states of the smaller side; ValueError above 20 units."""
        W, b, c = self.W.double(), self.b.double(), self.c.double()
        if len(b) < len(c):
            W, b, c = W.T, c, b
        parts = [states_ @ c + F.softplus(b + states_ @ W.T).sum(1) for states_ in states(len(c), W.device).split(4096)]
        return torch.logsumexp(torch.cat(parts), 0)

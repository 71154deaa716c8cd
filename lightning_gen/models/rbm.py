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


class GaussianBernoulliRBM(HiddenUnits):
    """Real v: E(v, h) = 1/2 ||(v - mu) / sigma||^2 - (v / sigma^2)T W h - cT h, sigma learned as log_variance.

    p(v|h) = N(mu + W h, diag sigma^2), p(h_j=1|v) = sigmoid(c + WT (v / sigma^2))_j. Not the form of Krizhevsky (2009)
    with (v / sigma)T W h, whose W is this one's divided by sigma: see `hinton`.
    Gaussian-Bernoulli RBMs without tears (Liao et al., 2022), https://arxiv.org/abs/2210.10318
    """

    names = ("W", "c", "mu", "log_variance")

    def __init__(
        self,
        shape: int | Sequence[int],
        hidden: int,
        std: float = 0.01,
        variance: float = 1.0,
        learn_variance: bool = True,
    ) -> None:
        super().__init__(shape, hidden, std, False, 0.01)
        if not variance > 0:
            raise ValueError(f"GaussianBernoulliRBM needs variance > 0, got {variance}")
        visible = math.prod(self.shape)
        self.mu = nn.Parameter(torch.zeros(visible))
        self.log_variance = nn.Parameter(torch.full((visible,), math.log(variance)), requires_grad=learn_variance)

    @property
    def variance(self) -> Tensor:
        """sigma^2 of each visible unit, (D,)."""
        return self.log_variance.exp()

    def hinton(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W', b, c, sigma of the equal machine E = 1/2 ||(v - b) / sigma||^2 - (v / sigma)T W' h - cT h.

        A practical guide to training RBMs (Hinton, 2012), https://doi.org/10.1007/978-3-642-35289-8_32, section 13.2
        """
        sigma = (0.5 * self.log_variance).exp()
        return self.W / sigma[:, None], self.mu, self.c, sigma

    @torch.no_grad()
    def set_hinton(self, W: Tensor, b: Tensor, c: Tensor, sigma: Tensor) -> None:
        """Become the machine that `hinton` would give these numbers for."""
        self.W.copy_(sigma[:, None] * W)
        self.mu.copy_(b)
        self.c.copy_(c)
        self.log_variance.copy_(2 * sigma.log())

    def field(self, v: Tensor) -> Tensor:
        """c + WT (v / sigma^2), (B, H)."""
        return torch.addmm(self.c, v.flatten(1) / self.variance, self.W)

    def free_energy(self, v: Tensor, field: Tensor) -> Tensor:
        """1/2 ||(v - mu) / sigma||^2 - sum_j softplus(field_j), nats, (B,)."""
        squares = (v.flatten(1) - self.mu).square() / self.variance
        return 0.5 * squares.sum(1) - F.softplus(field).sum(1)

    def joint_energy(self, v: Tensor, h: Tensor) -> Tensor:
        """E(v, h), nats, (B,)."""
        rows = v.flatten(1)
        squares = (rows - self.mu).square() / self.variance
        return 0.5 * squares.sum(1) - ((rows / self.variance @ self.W) * h).sum(1) - h @ self.c

    def visible(self, h: Tensor) -> Tensor:
        """mu + W h, (B, *shape)."""
        return torch.addmm(self.mu, h, self.W.T).view(-1, *self.shape)

    def sample_visible(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """v ~ N(mu + W h, diag sigma^2), (B, *shape)."""
        return self.visible(h) + self.spread(h, generator)

    def spread(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """sigma z, z ~ N(0, I), (B, *shape) for `like` (B, ...)."""
        z = torch.randn(len(like), len(self.mu), generator=generator, device=like.device, dtype=like.dtype)
        return (z * (0.5 * self.log_variance).exp()).view(-1, *self.shape)

    def prior(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """N(mu, diag sigma^2), the machine's law without its hidden units, (B, *shape)."""
        like = torch.empty(shape[0], 0, device=self.W.device if generator is None else generator.device)
        return self.mu.detach().view(self.shape) + self.spread(like.to(self.W.dtype), generator).detach()

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """-grad E(x) = (mu + W p(h|x) - x) / sigma^2, (B, ...), without automatic differentiation."""
        return (self.visible(self.hidden(x)) - x) / self.variance.view(self.shape)

    @torch.no_grad()
    def energy_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x), (B,), and -grad E(x), (B, ...), with one product each way."""
        field = self.field(x)
        return self.free_energy(x, field), (self.visible(field.sigmoid()) - x) / self.variance.view(self.shape)

    @torch.no_grad()
    def gradient(self, v: Tensor, field: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """By W, c, mu and log_variance, weighted and summed.

        dE/dmu = (mu - v) / sigma^2; dE/dlog_variance = (v . W p(h|v) - 1/2 (v - mu)^2) / sigma^2.
        """
        rows, variance = v.flatten(1), self.variance
        w, _, c = self.statistics(rows / variance, field.sigmoid(), weight)
        found = {"W": w, "c": c, "mu": (self.mu * weight.sum() - weight @ rows) / variance}
        if self.log_variance.requires_grad:
            # sum_i weight_i v_i . (W p_i) row by row of W is -W . dE/dW: no further product with the batch.
            found["log_variance"] = -(self.W * w).sum(1) - 0.5 * (weight @ (rows - self.mu).square()) / variance
        return found

    def mixture(self) -> tuple[Tensor, Tensor, Tensor]:
        """p(v) = sum_h w_h N(m_h, diag sigma^2): log w_h + log Z (2^H,), m_h (2^H, D), sigma^2 (D,), in float64.

        The first is each h's share of Z. ValueError above 20 hidden units.
        """
        W, mu, variance = self.W.double(), self.mu.double(), self.variance.double()
        h = states(len(self.c), W.device)
        means = mu + h @ W.T
        gain = 0.5 * ((means.square() - mu.square()) / variance).sum(1)
        constant = 0.5 * (len(mu) * math.log(2 * math.pi) + variance.log().sum())
        return h @ self.c.double() + gain + constant, means, variance

    def log_partition(self) -> Tensor:
        """log Z, nats, (), summing over the states of the hidden side; ValueError above 20 units."""
        return torch.logsumexp(self.mixture()[0], 0)

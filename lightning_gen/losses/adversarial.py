"""Losses of a generator and its critic, from the critic's values v of real and of generated samples."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_gen.options import Checked, NonNegative
from lightning_gen.randomness import uniform

LOG_2 = 0.6931471805599453


class AdversarialLoss(Checked, ABC):
    """Two losses, each to be minimised: of the critic, and of the generator. v are the critic's values, (B,)."""

    needs_real: ClassVar[bool] = False  # in the generator's loss: else the critic is not asked for its values of data

    @abstractmethod
    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Loss of the critic, (B,), from its values of x and of G(z)."""

    @abstractmethod
    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Loss of the generator, (B,), from the same; real is None unless `needs_real`."""


class Minimax(AdversarialLoss):
    """min_G max_D E log D(x) + E log(1 - D(G(z))), D = sigmoid(v); at D* = p / (p + q) its value is 2 JS - log 4.

    Generative adversarial nets (Goodfellow et al., 2014, eq. 1), https://arxiv.org/abs/1406.2661
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """-log D(x) - log(1 - D(G(z))), nats, (B,)."""
        return F.softplus(-real) + F.softplus(fake)

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """log(1 - D(G(z))), nats, (B,): its gradient vanishes where the critic rejects G(z)."""
        return -F.softplus(fake)


class NonSaturating(Minimax):
    """The same critic; the generator maximises E log D(G(z)).

    Generative adversarial nets (Goodfellow et al., 2014, section 3), https://arxiv.org/abs/1406.2661
    """

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """-log D(G(z)), nats, (B,)."""
        return F.softplus(-fake)


class Wasserstein(AdversarialLoss):
    """min_G max_D E D(x) - E D(G(z)), D = v with a bounded slope: by GradientPenalty, or spectral norm.

    Wasserstein GAN (Arjovsky et al., 2017), https://arxiv.org/abs/1701.07875
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """D(G(z)) - D(x), (B,)."""
        return fake - real

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """-D(G(z)), (B,)."""
        return -fake


class Hinge(Wasserstein):
    """The critic's values count up to a margin of 1; the generator's loss is Wasserstein's.

    Geometric GAN (Lim & Ye, 2017), https://arxiv.org/abs/1705.02894; with spectral norm: Spectral normalization for
    GANs (Miyato et al., 2018), https://arxiv.org/abs/1802.05957
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """max(0, 1 - D(x)) + max(0, 1 + D(G(z))), (B,)."""
        return F.relu(1 - real) + F.relu(1 + fake)


class LeastSquares(AdversarialLoss):
    """Regression of the critic to 1 on data and 0 on samples, of the generator's samples to 1.

    Least squares GANs (Mao et al., 2017, eq. 9), https://arxiv.org/abs/1611.04076
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """((D(x) - 1)^2 + D(G(z))^2) / 2, (B,)."""
        return ((real - 1).square() + fake.square()) / 2

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """(D(G(z)) - 1)^2 / 2, (B,)."""
        return (fake - 1).square() / 2


class Relativistic(AdversarialLoss):
    """The critic tells which one of a pair is real: -log sigmoid(D(x) - D(G(z))); with ZeroCentred it is R3GAN.

    The relativistic discriminator (Jolicoeur-Martineau, 2019), https://arxiv.org/abs/1807.00734; R3GAN (Huang et al.,
    2024), https://arxiv.org/abs/2501.05441
    """

    needs_real = True

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """softplus(D(G(z)) - D(x)), (B,)."""
        return F.softplus(fake - real)

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """softplus(D(x) - D(G(z))), (B,)."""
        return F.softplus(real - fake)


class Row(NamedTuple):
    """A divergence D_f(p, q) = int q f(p/q): f(u), its conjugate f*(t), the activation t = g(v), and f*(g(v)).

    The last is written out: the composition would round, or overflow, where v is large.
    """

    f: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]
    activation: Callable[[Tensor], Tensor]
    composed: Callable[[Tensor], Tensor]


DIVERGENCES = {
    "kl": Row(
        lambda u: u * u.log(),
        lambda t: (t - 1).exp(),
        lambda v: v,
        lambda v: (v - 1).exp(),
    ),
    "reverse_kl": Row(
        lambda u: -u.log(),
        lambda t: -1 - (-t).log(),
        lambda v: -(-v).exp(),
        lambda v: v - 1,
    ),
    "pearson": Row(
        lambda u: (u - 1).square(),
        lambda t: t.square() / 4 + t,
        lambda v: v,
        lambda v: v.square() / 4 + v,
    ),
    "squared_hellinger": Row(
        lambda u: (u.sqrt() - 1).square(),
        lambda t: t / (1 - t),
        lambda v: -torch.expm1(-v),
        lambda v: torch.expm1(v),
    ),
    "jensen_shannon": Row(
        lambda u: -(u + 1) * ((1 + u) / 2).log() + u * u.log(),
        lambda t: -(2 - t.exp()).log(),
        lambda v: LOG_2 - F.softplus(-v),
        lambda v: F.softplus(v) - LOG_2,
    ),
}


class FDivergence(AdversarialLoss):
    """min_G max_T E T(x) - E f*(T(G(z))), T = g(v): a bound of D_f(p, q), sharp at T* = f'(p/q).

    f-GAN (Nowozin et al., 2016, tables 1 and 2), https://arxiv.org/abs/1606.00709

    Args:
        divergence: the row; kl is KL(p || q), reverse_kl KL(q || p), jensen_shannon 2 JS.
        saturating: whether the generator minimises the bound itself; else it maximises E T(G(z)), as in section 3.2.
    """

    def __init__(
        self,
        divergence: Literal["kl", "reverse_kl", "pearson", "squared_hellinger", "jensen_shannon"],
        saturating: bool = False,
    ) -> None:
        self.row, self.saturating = DIVERGENCES[divergence], saturating

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """f*(T(G(z))) - T(x), (B,)."""
        return self.row.composed(fake) - self.row.activation(real)

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """-f*(T(G(z))) or -T(G(z)), (B,)."""
        return -self.row.composed(fake) if self.saturating else -self.row.activation(fake)


class Penalty(Checked, ABC):
    """A term of the critic's loss that bounds its slope."""

    @abstractmethod
    def __call__(
        self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator
    ) -> Tensor:
        """(B,), differentiable in the critic's weights; real and fake (B, ...) are constants."""


def slope(critic: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """||grad D(x)||^2, (B,), differentiable in the critic's weights."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(1)


class GradientPenalty(Penalty):
    """weight (||grad D(y)|| - 1)^2, y = u x + (1 - u) G(z), u ~ U(0, 1) for each pair.

    Its optimum is not W_1: two points at distance d give d (1 + d / (2 weight)).
    Improved training of Wasserstein GANs (Gulrajani et al., 2017), https://arxiv.org/abs/1704.00028

    Args:
        weight: of the penalty, the paper's lambda.
    """

    def __init__(self, weight: NonNegative = 10.0) -> None:
        self.weight = weight

    def __call__(
        self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The penalty of each pair, (B,)."""
        u = uniform((len(real), *[1] * (real.ndim - 1)), generator, real.device, real.dtype)
        # A norm of 0 has no derivative; its square has one.
        length = (slope(critic, u * real + (1 - u) * fake) + 1e-12).sqrt()
        return self.weight * (length - 1).square()


class ZeroCentred(Penalty):
    """r1 / 2 ||grad D(x)||^2 + r2 / 2 ||grad D(G(z))||^2: R1, and R2.

    Which training methods for GANs do actually converge? (Mescheder et al., 2018), https://arxiv.org/abs/1801.04406

    Args:
        r1: the weight gamma of the data's term.
        r2: that of the samples' term; 0 leaves it out.
    """

    def __init__(self, r1: NonNegative = 1.0, r2: NonNegative = 0.0) -> None:
        self.r1, self.r2 = r1, r2

    def __call__(
        self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The penalty of each pair, (B,)."""
        terms = [w / 2 * slope(critic, x) for w, x in ((self.r1, real), (self.r2, fake)) if w]
        return torch.stack(terms).sum(0) if terms else real.new_zeros(len(real))

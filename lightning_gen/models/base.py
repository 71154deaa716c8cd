"""Models and their capabilities: small base classes, each a mathematical operation that a model offers.

A sampler, a loss or an estimator names the capabilities that it needs (lightning_gen.models.requirements).
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from lightning_gen.models.support import REAL, Support
from lightning_gen.options import Checked
from lightning_gen.randomness import Source, bernoulli


class Model(Checked, nn.Module):
    """A density over x, (B, ...), or a generator of samples; its capabilities are its base classes with a `title`."""

    support: Support = REAL
    evaluations = 1  # calls of the network for one reading
    # What its weights in shards over the processes do not allow; None where its networks are called, and no more.
    unshardable: str | None = "may use weights outside of its networks' forward passes, or their derivatives in x"

    def __init__(self) -> None:
        super().__init__()
        self.label: Tensor | None = None

    def with_label(self, label: Tensor) -> Self:
        """A copy with labels (B,) bound to it and shared weights, so that losses and samplers handle no labels."""
        bound = copy.copy(self)
        bound.label = label
        return bound

    def networks(self) -> list[nn.Module]:
        """The networks of the model, for compilation and for the number of their classes."""
        return []

    @property
    def coordinates(self) -> int | None:
        """The number of values of a sample, where the model decides it; None where it takes the data's."""
        return None

    def check_data(self, data: Any) -> None:
        """ValueError for data outside of the support, or of another number of values than the coordinates."""
        self.support.check(data)
        if self.coordinates is not None and hasattr(data, "shape"):
            self.check_shape(data.shape)

    def check_shape(self, shape: Sequence[int]) -> None:
        """ValueError for samples of another number of values than the coordinates."""
        if self.coordinates is not None and math.prod(shape) != self.coordinates:
            raise ValueError(
                f"a sample has shape {tuple(shape)}, expected {self.coordinates} values, one for each coordinate of "
                f"{type(self).__name__}: choose other data, or another number of coordinates"
            )

    def why_not_differentiable(self) -> str | None:
        """Why log p has no second derivative in x everywhere, as a network declares (kinks); None where none does."""
        return next((kinks for net in self.networks() if (kinks := declared(net, "kinks"))), None)

    def call(self, net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        """net(x, t), or net(x, t, label) where a label is bound; t, (B,) or (), is expanded to (B,)."""
        t = t if t.ndim else t.expand(len(x))
        return net(x, t) if self.label is None else net(x, t, self.label)


def declared(net: nn.Module, trait: str) -> Any:
    """A trait that a network declares (called, classes, growth, kinks, middle, value_range); None where it does not."""
    return getattr(net, trait, None)


class Energy(Model, ABC):
    """A density known up to its constant: p(x) = exp(-E(x)) / Z.

    How to train your energy-based models (Song & Kingma, 2021), https://arxiv.org/abs/2101.03288
    """

    title = "an energy"

    @abstractmethod
    def energy(self, x: Tensor) -> Tensor:
        """E(x), nats, (B,)."""

    def component(self, x: Tensor, generator: torch.Generator | None = None) -> "Energy":
        """The energy itself; a mixture's is that of the component of each row, drawn given x (B, ...).

        Draws of the component given x and of x given the component, in turn, leave the mixture invariant.
        """
        return self

    def log_z(self) -> Tensor | None:
        """log Z, nats, (), exactly; None where it cannot be computed."""
        return None

    def why_unnormalisable(self) -> str | None:
        """Why exp(-E) may not be integrable, so that no likelihood exists; None where it is, for any weights."""
        return "nothing is known about the growth of its energy"

    def noise_level(self) -> float:
        """Standard deviation of the Gaussian noise in the data whose density this is; 0 for clean data."""
        return 0.0

    def tractable(self) -> bool:
        """Whether log Z can be computed and samples can be drawn exactly."""
        return False

    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """x ~ p exactly, `shape` = (B, ...); ValueError where that is not possible."""
        raise ValueError(f"{type(self).__name__} has no exact samples: use a sampler")


class Normalised(Energy):
    """An energy with log Z = 0: log p(x) is known, and samples are drawn exactly."""

    title = "a normalised density"
    dequantisation = "none"  # of `dequantise`: none, uniform or variational

    @property
    def levels(self) -> int | None:
        """The number of values K of the data, whole as they are or dequantised; None where there is no such number."""
        return self.support.levels

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), nats, (B,)."""

    @abstractmethod
    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """x ~ p, `shape` = (B, ...)."""

    def dequantise(self, x: Tensor, generator: Source) -> tuple[Tensor, Tensor]:
        """y ~ q(y|x), like x, real values for whole levels, and log q(y|x), nats, (B,): by default x itself and 0."""
        return x, x.new_zeros(len(x))

    def check_levels(self, x: Tensor) -> None:
        """ValueError where `dequantise` takes whole levels and x has other values."""

    def energy(self, x: Tensor) -> Tensor:
        """-log p(x), nats, (B,)."""
        return -self.log_prob(x)

    def log_z(self) -> Tensor:
        """0."""
        return torch.zeros((), dtype=torch.float64)

    def why_unnormalisable(self) -> None:
        """None: it is normalised."""
        return None

    def tractable(self) -> bool:
        """True."""
        return True


class Conditionals(Model, ABC):
    """Binary hidden units h beside the visible units v, each side independent given the other."""

    title = "the conditionals p(h|v) and p(v|h)"

    @abstractmethod
    def logits(self, v: Tensor) -> Tensor:
        """log p(h=1|v) / p(h=0|v), (B, H): one matrix product."""

    @abstractmethod
    def visible(self, h: Tensor) -> Tensor:
        """E[v|h], (B, ...): one matrix product."""

    @abstractmethod
    def sample_visible(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """v ~ p(v|h), (B, ...)."""

    @abstractmethod
    def prior(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Start of chains that do not start from data, `shape` = (B, ...)."""

    def why_no_prior(self) -> None:
        """None: `prior` is a distribution to start from."""
        return None

    def hidden(self, v: Tensor) -> Tensor:
        """p(h=1|v), (B, H)."""
        return self.logits(v).sigmoid()

    def sample_hidden(self, v: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """h ~ p(h|v), (B, H)."""
        return bernoulli(self.hidden(v), generator)


class GaussianConditionals(Conditionals):
    """Conditionals with p(v|h) = N(E[v|h], diag sigma^2)."""

    title = "a Gaussian p(v|h)"
    variance: Tensor  # sigma^2 of each visible unit, (D,)


class LatentVariables(Model, ABC):
    """Latent variables z, (B, L), from which x is generated: p(x) = int p(x|z) p(z) dz."""

    title = "latent variables with a decoder"
    latent: int  # L

    @abstractmethod
    def visible(self, z: Tensor) -> Tensor:
        """E[x|z], (B, ...)."""

    @abstractmethod
    def sample_visible(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """x ~ p(x|z), (B, ...)."""


class ObservationModel(LatentVariables):
    """Latent variables with a density p(x|z), so that p(x) = int p(x|z) p(z) dz is one."""

    title = "a density p(x|z) of its decoder"
    deviation: float | None = None  # s of p(x|z) = N(E[x|z], s^2 I), in units of x; None where x is binary

    @abstractmethod
    def log_conditional(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z), nats, (B,)."""

    @torch.no_grad()
    def simulate(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """x ~ p(x|z), (n, ...), and its z ~ N(0, I), (n, L): an exact sample of p(z|x)."""
        weight = next(self.parameters())
        z = torch.randn(n, self.latent, generator=generator, device=weight.device, dtype=weight.dtype)
        return self.sample_visible(z, generator), z


class Encoded(ObservationModel):
    """Latent variables with an encoder q(z|x) = N(mu(x), diag sigma^2(x))."""

    title = "an encoder q(z|x)"

    @abstractmethod
    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """mu(x) and log sigma^2(x), (B, L) each."""

    @abstractmethod
    def sample_posterior(self, mean: Tensor, log_variance: Tensor, generator: torch.Generator | None) -> Tensor:
        """z ~ N(mean, diag exp(log_variance)), like mean, differentiable in both."""

    @abstractmethod
    def log_weight(self, x: Tensor, mean: Tensor, log_variance: Tensor, z: Tensor) -> Tensor:
        """log w = log p(x|z) + log p(z) - log q(z|x), nats, (B,); E_q w = p(x)."""

"""Closed forms: p(x) = g(x) / Z with Z known, and parameters that any optimizer trains by likelihood.

All but the Gaussian are over a part of the real numbers: samplers and losses that need all of them refuse these. Where
T has a logarithm, x lies inside of the support's ends, at which log p is infinite, and draws are rounded to the inside.
A positive parameter is the exponential of a real one, so that no step leaves its range. x (B, ...) has one value for
each number of a constructor's lists, in order.
An exponential family is g(x) = h(x) exp(theta^T T(x)): at the greatest likelihood E_p T is the mean of T over the data.
Graphical models, exponential families, and variational inference (Wainwright & Jordan, 2008), section 3,
https://doi.org/10.1561/2200000001
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import MinLen
from torch import Tensor, distributions, nn

from lightning_gen.models.base import Normalised
from lightning_gen.models.energy import SmoothEnergy
from lightning_gen.models.support import COUNTS, NON_NEGATIVE, POSITIVE, SIMPLEX, UNIT
from lightning_gen.options import Finite, Positive
from lightning_gen.process import Clean
from lightning_gen.randomness import normal, uniform

Finites = Annotated[Sequence[Finite], MinLen(1)]
Positives = Annotated[Sequence[Positive], MinLen(1)]


class ClosedForm(Normalised, ABC):
    """A density of torch.distributions, with draws that depend on a generator alone."""

    @abstractmethod
    def law(self) -> distributions.Distribution:
        """The distribution of rows (D,)."""

    @abstractmethod
    def rows(self, n: int, generator: torch.Generator | None) -> Tensor:
        """n draws, (n, D)."""

    @property
    def coordinates(self) -> int:
        """D, the length of the constructor's lists."""
        return self.law().mean.numel()

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), nats, (B,); -inf outside of the support; ValueError for another number of values."""
        self.check_shape(x.shape[1:])
        law, inside = self.law(), self.support.contains(x)
        rows = torch.where(inside.unsqueeze(1), x.flatten(1), law.mean.detach())  # finite gradients outside
        return torch.where(inside, law.log_prob(rows), -math.inf)

    @torch.no_grad()
    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """x ~ p, `shape` = (B, ...); ValueError for another number of values."""
        self.check_shape(shape[1:])
        return self.rows(shape[0], generator).view(shape)


class Gaussian(ClosedForm, SmoothEnergy):
    """g(x) = exp(-(x - mean)^2 / 2 s^2), Z = sqrt(2 pi s^2), for each coordinate; T = (x, x^2).

    Args:
        mean: of each coordinate.
        deviation: s of each coordinate, > 0.
    """

    def __init__(self, mean: Finites, deviation: Positives) -> None:
        super().__init__(Clean())
        check_lengths(mean=mean, deviation=deviation)
        self.mean, self.log_deviation = nn.Parameter(torch.tensor([float(m) for m in mean])), logarithms(deviation)

    def law(self) -> distributions.Distribution:
        """N(mean, diag s^2)."""
        return independent(distributions.Normal(self.mean, self.log_deviation.exp(), validate_args=False))

    def rows(self, n: int, generator: torch.Generator | None) -> Tensor:
        """mean + s z, (n, D)."""
        z = normal((n, len(self.mean)), generator, self.mean.device, self.mean.dtype)
        return self.mean + self.log_deviation.exp() * z


class Exponential(ClosedForm):
    """g(x) = exp(-rate x), x >= 0, Z = 1 / rate, for each coordinate; T = x.

    Args:
        rate: of each coordinate, > 0.
    """

    support = NON_NEGATIVE

    def __init__(self, rate: Positives) -> None:
        super().__init__()
        self.log_rate = logarithms(rate)

    def law(self) -> distributions.Distribution:
        """Independent exponential distributions."""
        return independent(distributions.Exponential(self.log_rate.exp(), validate_args=False))

    def rows(self, n: int, generator: torch.Generator | None) -> Tensor:
        """-log(1 - u) / rate, the inverse of the distribution function, (n, D)."""
        u = uniform((n, len(self.log_rate)), generator, self.log_rate.device, self.log_rate.dtype)
        return -torch.log1p(-u) / self.log_rate.exp()


class Gamma(ClosedForm):
    """g(x) = x^(a - 1) exp(-rate x), x > 0, Z = Gamma(a) / rate^a, for each coordinate; T = (log x, x).

    Args:
        concentration: a of each coordinate, > 0.
        rate: of each coordinate, > 0.
    """

    support = POSITIVE

    def __init__(self, concentration: Positives, rate: Positives) -> None:
        super().__init__()
        check_lengths(concentration=concentration, rate=rate)
        self.log_concentration, self.log_rate = logarithms(concentration), logarithms(rate)

    def law(self) -> distributions.Distribution:
        """Independent Gamma distributions."""
        a, rate = self.log_concentration.exp(), self.log_rate.exp()
        return independent(distributions.Gamma(a, rate, validate_args=False))

    def rows(self, n: int, generator: torch.Generator | None) -> Tensor:
        """y / rate, y ~ Gamma(a, 1), (n, D)."""
        return positive((standard_log_gamma(self.log_concentration.exp(), n, generator) - self.log_rate).exp())


class Beta(ClosedForm):
    """g(x) = x^(a - 1) (1 - x)^(b - 1), 0 < x < 1, Z = Gamma(a) Gamma(b) / Gamma(a + b), for each coordinate.

    T = (log x, log(1 - x)).

    Args:
        a: of each coordinate, > 0.
        b: of each coordinate, > 0.
    """

    support = UNIT

    def __init__(self, a: Positives, b: Positives) -> None:
        super().__init__()
        check_lengths(a=a, b=b)
        self.log_a, self.log_b = logarithms(a), logarithms(b)

    def law(self) -> distributions.Distribution:
        """Independent Beta distributions."""
        return independent(distributions.Beta(self.log_a.exp(), self.log_b.exp(), validate_args=False))

    def rows(self, n: int, generator: torch.Generator | None) -> Tensor:
        """y / (y + z), y ~ Gamma(a, 1) and z ~ Gamma(b, 1), (n, D)."""
        log_y, log_z = (standard_log_gamma(log.exp(), n, generator) for log in (self.log_a, self.log_b))
        x = (log_y - log_z).sigmoid()
        return positive(x).clamp(max=1 - torch.finfo(x.dtype).eps / 2)


class Dirichlet(ClosedForm):
    """g(x) = prod_i x_i^(a_i - 1) on the simplex, x_i > 0, Z = prod_i Gamma(a_i) / Gamma(sum_i a_i); T = log x.

    p is the density of all coordinates but one, which the others determine.

    Args:
        concentration: a_i of each coordinate, > 0, at least two.
    """

    support = SIMPLEX

    def __init__(self, concentration: Positives) -> None:
        super().__init__()
        if len(concentration) < 2:
            raise ValueError("concentration has 1 number, expected at least 2, whose shares sum to 1: add numbers")
        self.log_concentration = logarithms(concentration)

    def law(self) -> distributions.Distribution:
        """The Dirichlet distribution."""
        return distributions.Dirichlet(self.log_concentration.exp(), validate_args=False)

    def rows(self, n: int, generator: torch.Generator | None) -> Tensor:
        """y / sum y, y_i ~ Gamma(a_i, 1), (n, D)."""
        return positive(standard_log_gamma(self.log_concentration.exp(), n, generator).softmax(1))


class Poisson(ClosedForm):
    """g(x) = rate^x / x!, x = 0, 1, ..., Z = exp(rate), for each coordinate: probabilities; T = x.

    Args:
        rate: of each coordinate, > 0.
    """

    support = COUNTS

    def __init__(self, rate: Positives) -> None:
        super().__init__()
        self.log_rate = logarithms(rate)

    def law(self) -> distributions.Distribution:
        """Independent Poisson distributions."""
        return independent(distributions.Poisson(self.log_rate.exp(), validate_args=False))

    def rows(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Counts, (n, D)."""
        return torch.poisson(self.log_rate.exp().repeat(n, 1), generator=generator)


def logarithms(values: Sequence[float]) -> nn.Parameter:
    """The parameter log values, (D,)."""
    return nn.Parameter(torch.tensor([math.log(value) for value in values]))


def check_lengths(**lists: Sequence[float]) -> None:
    """ValueError for lists of unlike lengths."""
    (first, one), (second, other) = lists.items()
    if len(one) != len(other):
        raise ValueError(
            f"{first} has {len(one)} numbers and {second} {len(other)}, expected one of each for every coordinate: "
            "write lists of one length"
        )


def independent(law: distributions.Distribution) -> distributions.Distribution:
    """The joint distribution of rows whose coordinates are independent."""
    return distributions.Independent(law, 1, validate_args=False)


def standard_log_gamma(concentration: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """log y, y ~ Gamma(a, 1), a the concentration (D,), (n, D): by y = z u^(1/a), z ~ Gamma(a + 1, 1), u uniform.

    The logarithm is finite for small a, too, where y itself is too small to be a number.
    A simple method for generating gamma variables (Marsaglia & Tsang, 2000), section 6,
    https://doi.org/10.1145/358407.358414
    """
    # torch.distributions draws by this function too, but from the global generator.
    z = torch._standard_gamma((concentration + 1).repeat(n, 1), generator=generator)
    u = uniform(z.shape, generator, z.device, z.dtype)
    return z.log() + torch.log1p(-u) / concentration


def positive(x: Tensor) -> Tensor:
    """x >= 0, with the least positive number of its kind for 0."""
    return x.clamp(min=torch.finfo(x.dtype).tiny)

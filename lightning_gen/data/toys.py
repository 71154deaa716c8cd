"""Distributions in the plane: rings, moons, a Gaussian mixture, a checkerboard.

Their scores are known in closed form or by quadrature, with any noise, to compare learned ones with.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from lightning_gen.data.base import GenerativeData
from lightning_gen.data.split import Split
from lightning_gen.options import Count, Natural, NonNegative
from lightning_gen.randomness import generator


class Toy(GenerativeData):
    """Points x in the plane, x = mean + noise z, z ~ N(0, I); model space is the plane itself.

    Each split has its own random numbers, addressed by (seed, name, split). Coordinates are of order 1.

    The points are an equal mixture of `classes` components. Noised to alpha x + N(0, variance I), they are alpha y with
    y = mean + N(0, w I), w = noise^2 + variance / alpha^2: one `components` for every process and time.

    Args:
        seed: of the points, and of the order.
        n: training points.
        val_size: validation points.
        test_size: test points.
        noise: standard deviation about the mean, in units of the plane.
    """

    _shape = (2,)

    def __init__(
        self,
        batch_size: Count = 128,
        seed: Natural = 0,
        n: Count = 20_000,
        val_size: Natural = 2_000,
        test_size: Natural = 2_000,
        noise: NonNegative = 0.05,
    ) -> None:
        super().__init__(batch_size, seed, flip=False, value_range=None)
        self.counts = {"train": n, "val": val_size, "test": test_size}
        self.noise = float(noise)

    @abstractmethod
    def means(self, label: Tensor, generator: Generator) -> Tensor:
        """Points without noise, (n, 2), of the components `label`, (n,)."""

    @abstractmethod
    def components(self, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Of each component, noise w (n, 1): log p_k(y), (n, K), and E_k[mean | y], (n, K, 2) or (K, 2); float64."""

    def log_density(self, x: Tensor, variance: Tensor | float, alpha: Tensor | float = 1.0) -> Tensor:
        """log p(x) of points noised to alpha x + N(0, variance I), nats, (n,), float64; variance, alpha () or (n,)."""
        y, w, alpha = self._unscaled(x, variance, alpha)
        return self.components(y, w)[0].logsumexp(1) - math.log(self.classes) - 2 * alpha.log().squeeze(1)

    def score(self, x: Tensor, variance: Tensor | float, alpha: Tensor | float = 1.0) -> Tensor:
        """grad log p(x) of the same, (n, 2), float64: Tweedie's (E[mean | y] - y) / (alpha w)."""
        y, w, alpha = self._unscaled(x, variance, alpha)
        log_density, mean = self.components(y, w)
        return ((log_density.softmax(1).unsqueeze(2) * mean).sum(1) - y) / (alpha * w)

    def _unscaled(self, x: Tensor, variance: Tensor | float, alpha: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        """y = x / alpha, (n, 2), and w and alpha, (n, 1), float64."""
        x = x.double()
        values = [torch.as_tensor(value, dtype=torch.float64, device=x.device) for value in (variance, alpha)]
        variance, alpha = (value.expand(len(x)).unsqueeze(1) for value in values)
        w = self.noise**2 + variance / alpha.square()
        if not (w > 0).all():
            raise ValueError(
                f"{self.name} has noise 0, expected more for a density in the plane: set data.noise > 0, or add noise"
            )
        return x / alpha, w, alpha

    def load(self) -> Mapping[str, Split]:
        """The splits, each drawn from its own random numbers."""
        return {name: self._draw(name, count) for name, count in self.counts.items()}

    def _draw(self, name: str, count: int) -> Split:
        source = generator(self.seed, "toy", self.name, name)
        label = torch.randint(self.classes, (count,), generator=source)
        points = self.means(label, source)
        return Split(points + self.noise * torch.randn(count, 2, generator=source), label)

    def encode(self, points: Tensor) -> Tensor:
        """The points themselves."""
        return points

    def decode(self, x: Tensor) -> Tensor:
        """The points themselves."""
        return x


class Rings(Toy):
    """Four circles about the origin, radii 1/2, 1, 3/2, 2, equally likely, each uniform in its angle."""

    name = "rings"
    classes = 4

    def means(self, label: Tensor, generator: Generator) -> Tensor:
        """r (cos a, sin a), r = (label + 1) / 2."""
        angle = 2 * math.pi * torch.rand(len(label), generator=generator)
        return (label + 1).unsqueeze(1) / 2 * torch.stack([angle.cos(), angle.sin()], dim=1)

    def components(self, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """N(|y|; r, w) I_0(z) e^-z / sqrt(2 pi w) with z = r |y| / w, and r I_1(z) / I_0(z) y / |y|."""
        r = torch.arange(1, self.classes + 1, dtype=y.dtype, device=y.device) / 2
        length = torch.linalg.vector_norm(y, dim=1, keepdim=True)
        z = r * length / w
        # I_0 and I_1 themselves overflow from z = 700 on.
        bessel, along = torch.special.i0e(z), y / length.clamp(min=1e-300)
        mean = (r * torch.special.i1e(z) / bessel).unsqueeze(2) * along.unsqueeze(1)
        return bessel.log() - (length - r).square() / (2 * w) - (2 * math.pi * w).log(), mean


class Moons(Toy):
    """Two interleaved half circles of radius 1, about (-1/2, -1/4) upwards and (1/2, 1/4) downwards.

    The shape of scikit-learn's make_moons (Pedregosa et al., 2011), centred, the angle uniform.
    """

    name = "moons"
    classes = 2

    def means(self, label: Tensor, generator: Generator) -> Tensor:
        """(cos a, sin a) - (1/2, 1/4), or its mirror image through the origin."""
        angle = math.pi * torch.rand(len(label), generator=generator)
        moon = torch.stack([angle.cos(), angle.sin()], dim=1) - torch.tensor([0.5, 0.25])
        return (1 - 2 * label).unsqueeze(1) * moon

    def components(self, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """1/pi int_0^pi N(y; m(a), w I) da, and the mean of m(a) under it, by quadrature."""
        centre = torch.tensor([0.5, 0.25], dtype=y.dtype, device=y.device)
        (upper, above), (lower, below) = half_circle(y + centre, w), half_circle(centre - y, w)
        return torch.stack([upper, lower], dim=1), torch.stack([above - centre, centre - below], dim=1)


def half_circle(z: Tensor, w: Tensor, nodes: int = 64) -> tuple[Tensor, Tensor]:
    """Of the upper half circle of radius 1 with noise w: log p(z), (n,), and E[point without noise | z], (n, 2).

    The density is e^(-(|z| - 1)^2 / 2w) / (2 pi^2 w) times the integral of e^(k (cos d - 1)), k = |z| / w, over the
    angles d from z's own direction. On each side of it the integrand decreases from the nearest point: Gauss-Legendre
    covers the part above e^-40 of its maximum, so that a narrow peak needs no more nodes than a wide one.
    """
    length = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    angle, k = torch.atan2(z[:, 1:], z[:, :1]), length / w
    inside = angle >= 0
    # The two sides of z's direction or, for z in the lower half plane, of the opposite direction.
    near = torch.cat([torch.where(inside, 0, -angle), torch.where(inside, 0, math.pi + angle)], dim=1)
    far = torch.cat([torch.where(inside, angle, math.pi), torch.where(inside, math.pi - angle, math.pi)], dim=1)
    with torch.no_grad():
        reach = torch.acos((near.cos() - 40 / k).clamp(min=-1))
    width = torch.minimum(reach, far) - near
    nodes_, weights = (torch.from_numpy(array).to(z) for array in np.polynomial.legendre.leggauss(nodes))
    d = near.unsqueeze(2) + width.unsqueeze(2) * (nodes_ + 1) / 2
    log_terms = -2 * k.unsqueeze(2) * (d / 2).sin().square() + (weights / 2).log() + width.unsqueeze(2).log()
    log_terms, sign = log_terms.flatten(1), torch.tensor([-1.0, 1.0], dtype=z.dtype, device=z.device)
    # In the lower half plane angles are measured from z's direction too: the sides are exchanged.
    angles = angle.unsqueeze(2) + torch.where(inside, sign, -sign).unsqueeze(2) * d
    share = log_terms.softmax(1).unsqueeze(2)
    mean = (share * torch.stack([angles.cos(), angles.sin()], dim=3).flatten(1, 2)).sum(1)
    peak = (length - 1).square() / (2 * w) + (2 * math.pi**2 * w).log()
    return log_terms.logsumexp(1) - peak.squeeze(1), mean


class Gaussians(Toy):
    """Equal mixture of eight N(m_k, noise^2 I), m_k = 3/2 (cos, sin)(pi k / 4): eight separate modes."""

    name = "gaussians"
    classes = 8

    def __init__(self, *, noise: NonNegative = 0.1, **options: Any) -> None:
        super().__init__(noise=noise, **options)

    def means(self, label: Tensor, generator: Generator) -> Tensor:
        """m_k."""
        angle = math.pi * label / 4
        return 1.5 * torch.stack([angle.cos(), angle.sin()], dim=1)

    def components(self, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """log N(y; m_k, w I), and m_k."""
        means = self.means(torch.arange(self.classes, device=y.device, dtype=y.dtype), None)
        squares = (y.unsqueeze(1) - means).square().sum(2)
        return -squares / (2 * w) - (2 * math.pi * w).log(), means


class Checkerboard(Toy):
    """Uniform on the eight dark squares of side 1 in [-2, 2]^2, those with floor(x) + floor(y) even.

    Used by FFJORD (Grathwohl et al., 2019), https://arxiv.org/abs/1810.01367, there on [-4, 4]^2.
    """

    name = "checkerboard"
    classes = 8

    def __init__(self, *, noise: NonNegative = 0.0, **options: Any) -> None:
        super().__init__(noise=noise, **options)

    def means(self, label: Tensor, generator: Generator) -> Tensor:
        """Uniform in dark square `label`; each of the four rows has two."""
        return self.corner(label) + torch.rand(len(label), 2, generator=generator)

    def corner(self, label: Tensor) -> Tensor:
        """Lower left corners, (n, 2)."""
        row = label // 2
        return torch.stack([2 * (label % 2) + row % 2, row], dim=1) - 2

    def components(self, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Both coordinates' P(c - y < sqrt(w) z < c + 1 - y), and the means of the truncated normal laws."""
        spread = w.sqrt().unsqueeze(2)
        low = (self.corner(torch.arange(self.classes, device=y.device)) - y.unsqueeze(1)) / spread
        high = low + 1 / spread
        # In the upper tail both probabilities round to 1: the mirror image keeps the precision.
        flip = low + high > 0
        a, b = (torch.special.log_ndtr(torch.where(flip, -p, q)) for p, q in ((high, low), (low, high)))
        log_mass = b + (-torch.expm1(a - b)).log()
        edges = [(-p.square() / 2 - log_mass).exp() / math.sqrt(2 * math.pi) for p in (low, high)]
        return log_mass.sum(2), y.unsqueeze(1) + spread * (edges[0] - edges[1])

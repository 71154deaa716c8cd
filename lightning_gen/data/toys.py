"""Distributions in the plane that a person can see: rings, moons, a Gaussian mixture, a checkerboard."""

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from lightning_gen.data.base import GenerativeData, whole
from lightning_gen.data.split import Split
from lightning_gen.randomness import generator


class Toy(GenerativeData):
    """Points x in the plane, x = mean + noise z, z ~ N(0, I); model space is the plane itself.

    Each split is drawn from an address of its own, (seed, name, split). Coordinates are of order 1.
    """

    _shape = (2,)

    def __init__(self, batch_size: int, seed: int, n: int, val_size: int, test_size: int, noise: float):
        super().__init__(batch_size, seed, flip=False, value_range=None)
        self.counts = {
            "train": whole("n", n, least=1),
            "val": whole("val_size", val_size),
            "test": whole("test_size", test_size),
        }
        if isinstance(noise, bool) or not isinstance(noise, int | float):
            raise TypeError(f"noise needs a number, got {noise!r}")
        if not 0 <= noise < math.inf:
            raise ValueError(f"noise needs a finite number >= 0, got {noise}")
        self.noise = float(noise)

    @abstractmethod
    def means(self, label: Tensor, generator: Generator) -> Tensor:
        """Points without noise, (n, 2), of the parts `label`, (n,)."""

    def load(self) -> Mapping[str, Split]:
        """Draw the splits."""
        return {name: self._draw(name, count) for name, count in self.counts.items()}

    def _draw(self, name: str, count: int) -> Split:
        place = generator(self.seed, "toy", self.name, name)
        label = torch.randint(self.classes, (count,), generator=place)
        points = self.means(label, place)
        return Split(points + self.noise * torch.randn(count, 2, generator=place), label)

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

    def __init__(
        self,
        batch_size: int = 128,
        seed: int = 0,
        n: int = 20_000,
        val_size: int = 2_000,
        test_size: int = 2_000,
        noise: float = 0.05,
    ):
        super().__init__(batch_size, seed, n, val_size, test_size, noise)

    def means(self, label: Tensor, generator: Generator) -> Tensor:
        """r (cos a, sin a), r = (label + 1) / 2."""
        angle = 2 * math.pi * torch.rand(len(label), generator=generator)
        return (label + 1).unsqueeze(1) / 2 * torch.stack([angle.cos(), angle.sin()], dim=1)


class Moons(Toy):
    """Two interleaved half circles of radius 1, about (-1/2, -1/4) upwards and (1/2, 1/4) downwards.

    The shape of scikit-learn's make_moons (Pedregosa et al., 2011), centred, the angle uniform.
    """

    name = "moons"
    classes = 2

    def __init__(
        self,
        batch_size: int = 128,
        seed: int = 0,
        n: int = 20_000,
        val_size: int = 2_000,
        test_size: int = 2_000,
        noise: float = 0.05,
    ):
        super().__init__(batch_size, seed, n, val_size, test_size, noise)

    def means(self, label: Tensor, generator: Generator) -> Tensor:
        """(cos a, sin a) - (1/2, 1/4), or its mirror image through the origin."""
        angle = math.pi * torch.rand(len(label), generator=generator)
        moon = torch.stack([angle.cos(), angle.sin()], dim=1) - torch.tensor([0.5, 0.25])
        return (1 - 2 * label).unsqueeze(1) * moon


class Gaussians(Toy):
    """Equal mixture of eight N(m_k, noise^2 I), m_k = 3/2 (cos, sin)(pi k / 4): modes to be found and none between."""

    name = "gaussians"
    classes = 8

    def __init__(
        self,
        batch_size: int = 128,
        seed: int = 0,
        n: int = 20_000,
        val_size: int = 2_000,
        test_size: int = 2_000,
        noise: float = 0.1,
    ):
        super().__init__(batch_size, seed, n, val_size, test_size, noise)

    def means(self, label: Tensor, generator: Generator) -> Tensor:
        """m_k."""
        angle = math.pi * label / 4
        return 1.5 * torch.stack([angle.cos(), angle.sin()], dim=1)


class Checkerboard(Toy):
    """Uniform on the eight dark squares of side 1 in [-2, 2]^2, those with floor(x) + floor(y) even.

    Used by FFJORD (Grathwohl et al., 2019), https://arxiv.org/abs/1810.01367, there on [-4, 4]^2.
    """

    name = "checkerboard"
    classes = 8

    def __init__(
        self,
        batch_size: int = 128,
        seed: int = 0,
        n: int = 20_000,
        val_size: int = 2_000,
        test_size: int = 2_000,
        noise: float = 0.0,
    ):
        super().__init__(batch_size, seed, n, val_size, test_size, noise)

    def means(self, label: Tensor, generator: Generator) -> Tensor:
        """Uniform in dark square number `label`, two in each of four rows."""
        row = label // 2
        corner = torch.stack([2 * (label % 2) + row % 2, row], dim=1) - 2
        return corner + torch.rand(len(label), 2, generator=generator)

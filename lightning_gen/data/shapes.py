"""Images with known factors of variation: drawn here, or dSprites from a file."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor

from lightning_gen.data.base import GenerativeData, partition
from lightning_gen.data.files import read_arrays
from lightning_gen.data.split import Split
from lightning_gen.options import Count, LocalPath, Natural, ValueRange

FINE = 4  # samples along a pixel's side: a pixel is the mean of 4 x 4


class Factored(GenerativeData):
    """Every combination of some factors, once: image i has the digits of i in the mixed radix `factor_sizes`.

    The label is the shape.

    Args:
        val_size: random combinations for validation, the same for every seed.
        test_size: random combinations for the test, the same for every seed.
        binarise: threshold at 1/2; null keeps the grey levels.
    """

    factor_names: tuple[str, ...] = ("shape", "scale", "rotation", "x", "y")
    factor_sizes: tuple[int, ...]

    def __init__(
        self,
        *,
        val_size: Natural = 512,
        test_size: Natural = 1024,
        binarise: Literal["threshold"] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(flip=False, binarise=binarise, **options)
        self.val_size, self.test_size = val_size, test_size
        self._images: Tensor | None = None

    @abstractmethod
    def draw(self) -> Tensor:
        """All images in order, uint8, (prod(factor_sizes), C, H, W)."""

    def all_images(self) -> Tensor:
        """The images of `draw`, binarised where the data are, computed once."""
        if self._images is None:
            images = self.draw()
            self._images = (images > 127).byte() * 255 if self.binarise else images
        return self._images

    def factors(self, indices: Tensor) -> Tensor:
        """The factors of the images `indices` (n,), int64, (n, F)."""
        parts = []
        for size in reversed(self.factor_sizes):
            parts.append(indices % size)
            indices = indices // size
        return torch.stack(parts[::-1], 1)

    def combinations(self, factors: Tensor) -> Tensor:
        """The inverse of `factors`: image indices of factors (n, F), int64, (n,)."""
        index = torch.zeros(len(factors), dtype=torch.int64)
        for size, column in zip(self.factor_sizes, factors.T, strict=True):
            index = index * size + column
        return index

    def load(self) -> Mapping[str, Split]:
        """Three disjoint sets of combinations."""
        images = self.all_images()
        labels = self.factors(torch.arange(len(images)))[:, 0]
        return partition(Split(images, labels), self.name, test_size=self.test_size, val_size=self.val_size)


class Shapes(Factored):
    """A square, an ellipse and a heart of 4 scales at 8 rotations and 8 x 8 positions: 6,144 grey images, drawn here.

    The rotations are k pi / 16, k = 0..7, less than a quarter turn, after which the square is the same: no image has
    two sets of factors. A pixel is the mean of 4 x 4 samples; at 32 x 32 all images differ.
    After dSprites (Matthey et al., 2017), https://github.com/google-deepmind/dsprites-dataset

    Args:
        size: height and width, pixels, 16 to 128.
    """

    name = "shapes"
    classes = 3
    factor_sizes = (3, 4, 8, 8, 8)

    def __init__(self, *, size: Annotated[int, Interval(ge=16, le=128)] = 32, **options: Any) -> None:
        super().__init__(**options)
        self.size, self._shape = size, (1, size, size)

    def draw(self) -> Tensor:
        """All images, uint8, (6144, 1, size, size)."""
        shapes, scales, rotations, xs, ys = self.factor_sizes
        side = self.size * FINE
        # One canvas of twice the side for each shape, scale and rotation: a position is a window of it.
        fine = (torch.arange(2 * side, dtype=torch.float64) + 0.5) / side * 2 - 2
        shifts = (torch.linspace(-0.2, 0.2, xs, dtype=torch.float64) * side).round().long().tolist()
        images = torch.empty(shapes, scales, rotations, xs, ys, self.size, self.size, dtype=torch.uint8)
        for scale in range(scales):
            radius = 0.2 + 0.3 * scale / (scales - 1)
            for turn in range(rotations):
                angle = math.pi / 2 * turn / rotations
                u, v = fine / radius, -fine[:, None] / radius  # v points up
                a, b = math.cos(angle) * u + math.sin(angle) * v, math.cos(angle) * v - math.sin(angle) * u
                for kind, inside in enumerate((square, ellipse, heart)):
                    canvas = inside(a, b).float()
                    for x, right in enumerate(shifts):
                        left, rows = side // 2 - right, [side // 2 + up for up in shifts]
                        windows = torch.stack([canvas[top : top + side, left : left + side] for top in rows])
                        covered = F.avg_pool2d(windows[:, None], FINE)[:, 0]
                        images[kind, scale, turn, x] = (covered * 255).round().to(torch.uint8)
        return images.view(-1, 1, self.size, self.size)


def square(u: Tensor, v: Tensor) -> Tensor:
    """Whether (u, v) lies in the square of half side 0.7."""
    return (u.abs() < 0.7) & (v.abs() < 0.7)


def ellipse(u: Tensor, v: Tensor) -> Tensor:
    """Whether (u, v) lies in the ellipse of half axes 0.95 and 0.5."""
    return (u / 0.95).square() + (v / 0.5).square() < 1


def heart(u: Tensor, v: Tensor) -> Tensor:
    """Whether (u, v) lies in the heart (x^2 + y^2 - 1)^3 < x^2 y^3, scaled to the unit circle."""
    x, y = 1.35 * u, 1.35 * v + 0.1
    round_ = x.square() + y.square() - 1
    return round_ * round_ * round_ < x.square() * y * y * y


class DSprites(Factored):
    """dSprites: 737,280 images of 64x64 from its .npz, or a part of them.

    All take 3 GB, and 6 GB while they are split; every = [1, 1, 2, 2, 2] takes an eighth. A square is the same after a
    quarter turn, an ellipse after a half: their rotation cannot be inferred from the image.
    dSprites (Matthey et al., 2017), https://github.com/google-deepmind/dsprites-dataset

    Args:
        path: of dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz.
        every: k of each factor, of which every k-th value is kept: shape, scale, rotation, x, y.
    """

    name = "dsprites"
    classes = 3
    _shape = (1, 64, 64)
    whole_sizes = (3, 6, 40, 32, 32)

    def __init__(
        self,
        path: LocalPath,
        *,
        every: tuple[Count, Count, Count, Count, Count] = (1, 1, 1, 1, 1),
        val_size: Natural = 5000,
        test_size: Natural = 10_000,
        value_range: ValueRange | None = (0.0, 1.0),
        binarise: Literal["threshold"] | None = "threshold",
        **options: Any,
    ) -> None:
        super().__init__(val_size=val_size, test_size=test_size, value_range=value_range, binarise=binarise, **options)
        if any(k >= n for k, n in zip(every, self.whole_sizes, strict=True)):
            raise ValueError(
                f"DSprites.every is {list(every)}, expected numbers below {list(self.whole_sizes)}: write smaller ones"
            )
        self.path, self.every = Path(path), tuple(every)
        self.factor_sizes = tuple(-(-n // k) for n, k in zip(self.whole_sizes, self.every, strict=True))

    def prepare_data(self) -> None:
        """FileNotFoundError where the file is missing."""
        if not self.path.is_file():
            raise FileNotFoundError(
                f"data.path={self.path} is not a file: set data.path to dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
            )

    check_files = prepare_data

    def draw(self) -> Tensor:
        """The images of `every`, uint8 of 0 and 255; ValueError for another archive."""
        import numpy

        self.prepare_data()
        # Its metadata are pickled and could run code: they are not read.
        arrays, names = read_arrays(self.path, ("imgs", "latents_classes"), "download it again")
        if len(arrays) < 2:
            raise ValueError(f"{self.path} holds {', '.join(names)}: dSprites has imgs and latents_classes")
        images, classes = arrays["imgs"], arrays["latents_classes"]
        count = math.prod(self.whole_sizes)
        if images.shape != (count, 64, 64) or images.dtype != numpy.uint8 or classes.shape != (count, 6):
            raise ValueError(f"{self.path}: imgs needs uint8 {(count, 64, 64)}, got {images.dtype} {images.shape}")
        chosen = numpy.flatnonzero((classes[:, 1:] % numpy.array(self.every) == 0).all(1))
        factors = torch.from_numpy(classes[chosen, 1:]).long() // torch.tensor(self.every)
        if not torch.equal(factors, self.factors(torch.arange(len(chosen)))):
            raise ValueError(f"{self.path}: latents_classes are not in dSprites' order: download the file again")
        return torch.from_numpy(images[chosen]).mul_(255).unsqueeze(1)

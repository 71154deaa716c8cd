"""Images that stay in their files: the reader of one, and a split of them that workers read ahead of time."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_gen.data.files import content_digest
from lightning_gen.data.image_files import Encoded, open_image
from lightning_gen.data.split import Indices, Split
from lightning_gen.errors import Unreadable
from lightning_gen.randomness import generator

if TYPE_CHECKING:
    from PIL import Image

Fit = Literal["crop", "pad"]
SHOWN = 10  # files that are named in one message


@dataclass(frozen=True)
class Reader:
    """One encoded image as uint8 (C, H, W): upright, transparent pixels over white.

    Args:
        size: after bicubic resizing, pixels, of the shorter side, or where it is padded of the longer; null keeps it.
        fit: crop cuts the centre out, pad fills up with white, both to size x size pixels; null keeps the proportion.
        mode: RGB, or L for grey.
    """

    size: int | None
    fit: Fit | None
    mode: Literal["RGB", "L"]

    def __call__(self, item: Encoded) -> Tensor:
        """uint8, (3 or 1, H, W)."""
        return torch.from_numpy(numpy.array(self._pixels(item), order="C"))

    def _pixels(self, item: Encoded) -> numpy.ndarray:
        """uint8, (3 or 1, H, W): a view of rows of pixels, not to be written."""
        image = open_image(item)
        if image.has_transparency_data:
            from PIL import Image

            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = self._fit(image if image.mode == self.mode else image.convert(self.mode))
        rows = numpy.frombuffer(image.tobytes(), numpy.uint8)
        return rows.reshape(image.height, image.width, -1).transpose(2, 0, 1)

    def _fit(self, image: "Image.Image") -> "Image.Image":
        """The image resized, then cropped or padded."""
        from PIL import Image

        if self.size is None:
            return image
        scale = self.size / (max if self.fit == "pad" else min)(image.size)
        width, height = (max(1, round(scale * side)) for side in image.size)
        if (width, height) != image.size:
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        if self.fit is None or width == height:
            return image
        left, top = (width - self.size) // 2, (height - self.size) // 2
        if self.fit == "crop":
            return image.crop((left, top, left + self.size, top + self.size))
        square = Image.new(image.mode, (self.size, self.size), "white")
        square.paste(image, (-left, -top))
        return square

    def read_all(self, items: Sequence[Encoded], shape: tuple[int, ...]) -> Tensor:
        """uint8, (n, *shape)."""
        images = numpy.empty((len(items), *shape), numpy.uint8)
        for image, item in zip(images, items, strict=True):
            image[...] = self._checked(item, shape)
        return torch.from_numpy(images)

    def attempt(self, item: Encoded, shape: tuple[int, ...] | None = None) -> Tensor | Unreadable:
        """`read`, or what is wrong with the image."""
        try:
            return self(item) if shape is None else self.read(item, shape)
        except Unreadable as error:
            return error

    def read(self, item: Encoded, shape: tuple[int, ...]) -> Tensor:
        """uint8, of `shape`; Unreadable for another."""
        return self.read_all([item], shape)[0]

    def _checked(self, item: Encoded, shape: tuple[int, ...]) -> numpy.ndarray:
        """The same as an array, not to be written."""
        pixels = self._pixels(item)
        if pixels.shape != shape:
            raise Unreadable(
                f"{item} is {pixels.shape[2]}x{pixels.shape[1]} pixels, expected {shape[2]}x{shape[1]} as the others: "
                "set size, with fit=crop or pad, to make them equal"
            )
        return pixels


def listed(faults: Sequence[str]) -> str:
    """The first ten faults, and how many there are."""
    more = [f"and {len(faults) - SHOWN} more files, {len(faults)} in all"] if len(faults) > SHOWN else []
    return "; ".join([*faults[:SHOWN], *more])


class _Files(Dataset):
    """The data set of a worker; a ValueError is a returned value: the main process raises it without a traceback."""

    def __init__(self, reader: Reader, items: Sequence[Encoded], shape: tuple[int, ...]) -> None:
        self.reader, self.items, self.shape = reader, items, shape

    def __getitems__(self, indices: list[int]) -> Tensor | ValueError:
        try:
            return self.reader.read_all([self.items[index] for index in indices], self.shape)
        except ValueError as error:
            return error


def _identity(batch: Any) -> Any:
    return batch


class FileSplit(Split):
    """Images that stay in their files; `stream` reads them ahead of time.

    Args:
        reader: of one file.
        items: the encoded images, in order.
        shape: (C, H, W) of every image.
        labels: int64 (n,), or null.
        workers: processes that read ahead.
    """

    def __init__(
        self, reader: Reader, items: Sequence[Encoded], shape: tuple[int, ...], labels: Tensor | None, workers: int
    ) -> None:
        super().__init__(torch.empty(len(items), 0, dtype=torch.uint8), labels)
        self._reader, self._items, self._shape, self._workers = reader, items, shape, workers

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return self._shape

    def to(self, device: torch.device | str) -> Split:
        """Itself: files are not on a device."""
        return self

    def subset(self, indices: Tensor) -> "FileSplit":
        """The split of the images `indices`, (n,)."""
        items = [self._items[row] for row in indices.tolist()]
        return FileSplit(self._reader, items, self._shape, self.labels(indices), self._workers)

    def identity(self, cache: Path | None = None) -> str:
        """files: and the digest of the files' bytes and labels; where `cache` knows it, a stat a file."""
        labels = self.labels(slice(None))
        return f"files:{content_digest(self._items, None if labels is None else labels.tolist(), cache)}"

    def take(self, indices: Indices) -> Tensor:
        """uint8, (n, C, H, W)."""
        if isinstance(indices, slice):
            indices = range(*indices.indices(len(self)))
        rows = indices.tolist() if isinstance(indices, Tensor) else list(indices)
        if not rows:
            return torch.empty(0, *self.shape, dtype=torch.uint8)
        return self._reader.read_all([self._items[row] for row in rows], self.shape)

    def stream(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """The images of each batch of indices, in order; ValueError for a file that cannot be read."""
        loader = DataLoader(
            _Files(self._reader, self._items, self.shape),
            batch_sampler=[indices.tolist() for indices in batches],
            num_workers=self._workers,
            collate_fn=_identity,
            # Without this argument a DataLoader draws from the global generator.
            generator=generator(0, "workers"),
        )
        for rows in loader:
            if isinstance(rows, ValueError):
                raise rows
            yield rows

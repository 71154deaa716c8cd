"""Images from a folder: in memory where they fit, else streamed by workers, with the same batches."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_gen.data.base import GenerativeData, partition
from lightning_gen.data.files import content_digest
from lightning_gen.data.image_files import image_files, open_image
from lightning_gen.data.split import Indices, Split
from lightning_gen.errors import Unreadable
from lightning_gen.options import Count, Natural, Rate
from lightning_gen.randomness import generator

SHOWN = 10  # files that are named in one message


@dataclass(frozen=True)
class Reader:
    """One image file as uint8 (C, H, W): upright, transparent pixels over white.

    Args:
        size: of the shorter side after bicubic resizing, pixels; null keeps it.
        crop: cut the centre out, size x size pixels.
        mode: RGB, or L for grey.
    """

    size: int | None
    crop: bool
    mode: Literal["RGB", "L"]

    def __call__(self, path: Path) -> Tensor:
        """uint8, (3 or 1, H, W)."""
        from PIL import Image

        image = open_image(path)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        pixels = numpy.array(self._fit(image.convert(self.mode)))
        return torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).permute(2, 0, 1).contiguous()

    def _fit(self, image):
        """The image resized and cropped."""
        from PIL import Image

        if self.size is None:
            return image
        scale = self.size / min(image.size)
        width, height = (max(self.size, round(scale * side)) for side in image.size)
        if (width, height) != image.size:
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        if not self.crop:
            return image
        left, top = (width - self.size) // 2, (height - self.size) // 2
        return image.crop((left, top, left + self.size, top + self.size))

    def read_all(self, paths: Sequence[Path], shape: tuple[int, ...]) -> Tensor:
        """uint8, (n, *shape)."""
        return torch.stack([self.read(path, shape) for path in paths])

    def attempt(self, path: Path, shape: tuple[int, ...] | None = None) -> Tensor | Unreadable:
        """`read`, or what is wrong with the file."""
        try:
            return self(path) if shape is None else self.read(path, shape)
        except Unreadable as error:
            return error

    def read(self, path: Path, shape: tuple[int, ...]) -> Tensor:
        """uint8, of `shape`; Unreadable for another."""
        image = self(path)
        if tuple(image.shape) != shape:
            raise Unreadable(
                f"{path} is {image.shape[2]}x{image.shape[1]} pixels, expected {shape[2]}x{shape[1]} as the others: "
                "set size, with crop=true, to make them equal"
            )
        return image


def listed(faults: Sequence[str]) -> str:
    """The first ten faults, and how many there are."""
    more = [f"and {len(faults) - SHOWN} more files, {len(faults)} in all"] if len(faults) > SHOWN else []
    return "; ".join([*faults[:SHOWN], *more])


class _Files(Dataset):
    """The data set of a worker; a ValueError is a returned value: the main process raises it without a traceback."""

    def __init__(self, reader: Reader, paths: Sequence[Path], shape: tuple[int, ...]):
        self.reader, self.paths, self.shape = reader, paths, shape

    def __getitems__(self, indices: list[int]) -> Tensor | ValueError:
        try:
            return self.reader.read_all([self.paths[index] for index in indices], self.shape)
        except ValueError as error:
            return error


def _identity(batch):
    return batch


class FileSplit(Split):
    """Images that stay in their files; `stream` reads them ahead of time.

    Args:
        reader: of one file.
        paths: of the files, in order.
        shape: (C, H, W) of every image.
        labels: int64 (n,), or null.
        workers: processes that read ahead.
    """

    def __init__(
        self, reader: Reader, paths: Sequence[Path], shape: tuple[int, ...], labels: Tensor | None, workers: int
    ):
        super().__init__(torch.empty(len(paths), 0, dtype=torch.uint8), labels)
        self._reader, self._paths, self._shape, self._workers = reader, paths, shape, workers

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return self._shape

    def to(self, device: torch.device | str) -> Split:
        """Itself: files are not on a device."""
        return self

    def subset(self, indices: Tensor) -> "FileSplit":
        """The split of the files `indices`, (n,)."""
        paths = [self._paths[row] for row in indices.tolist()]
        return FileSplit(self._reader, paths, self._shape, self.labels(indices), self._workers)

    def identity(self, cache: Path | None = None) -> str:
        """files: and the digest of the files' bytes and labels; where `cache` knows it, a stat a file."""
        labels = self.labels(slice(None))
        return f"files:{content_digest(self._paths, None if labels is None else labels.tolist(), cache)}"

    def take(self, indices: Indices) -> Tensor:
        """uint8, (n, C, H, W)."""
        if isinstance(indices, slice):
            indices = range(*indices.indices(len(self)))
        rows = indices.tolist() if isinstance(indices, Tensor) else list(indices)
        if not rows:
            return torch.empty(0, *self.shape, dtype=torch.uint8)
        return self._reader.read_all([self._paths[row] for row in rows], self.shape)

    def stream(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """The images of each batch of indices, in order; ValueError for a file that cannot be read."""
        loader = DataLoader(
            _Files(self._reader, self._paths, self.shape),
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


class Folder(GenerativeData):
    """PNG, JPEG and WebP images below `path`: sub-folders are the classes, or all lie flat and have no label.

    Args:
        path: of the folder; its name is the data set's.
        val_size: images held out for validation, a number or a fraction of all, the same for every seed.
        test_size: images held out for the test, a number or a fraction of all, the same for every seed.
        size: of the shorter side after bicubic resizing, pixels; null keeps it.
        crop: cut the centre out, size x size pixels.
        mode: RGB, or L for grey.
        workers: processes that read images in training, where they do not fit in memory.
        memory_limit: bytes of images, up to which all are kept on the training device.
    """

    def __init__(
        self,
        path: str,
        *,
        val_size: Natural | Rate = 0.05,
        test_size: Natural | Rate = 0.1,
        size: Count | None = None,
        crop: bool = True,
        mode: Literal["RGB", "L"] = "RGB",
        workers: Natural = 2,
        memory_limit: Natural = 2 * 2**30,
        **options: Any,
    ):
        super().__init__(binarise=None, **options)
        self.path = Path(path)
        self.name = self.path.name
        self.reader = Reader(size, crop, mode)
        self.sizes = {"test_size": test_size, "val_size": val_size}
        self.workers, self.memory_limit = workers, memory_limit

    def prepare_data(self) -> None:
        """FileNotFoundError where the folder is missing."""
        if not self.path.is_dir():
            raise FileNotFoundError(f"data.path={self.path} is not a folder: set data.path to a folder of images")

    def check_files(self) -> None:
        """FileNotFoundError or ValueError for what is no folder of images, Unreadable where none can be read."""
        self.prepare_data()
        self._shape_of_first(self._labelled_files()[0])

    def load(self) -> Mapping[str, Split]:
        """The splits, in memory where all images fit."""
        self.prepare_data()
        paths, labels = self._labelled_files()
        shape = self._shape_of_first(paths)
        if len(paths) * torch.Size(shape).numel() > self.memory_limit:
            whole = FileSplit(self.reader, paths, shape, labels, self.workers)
        else:
            whole = Split(self._read(paths, shape), labels)
        sizes = {key: int(size * len(paths)) if isinstance(size, float) else size for key, size in self.sizes.items()}
        return partition(whole, "folder", **sizes)

    def _shape_of_first(self, paths: list[Path]) -> tuple[int, ...]:
        """(C, H, W) of the first file that can be read; Unreadable where none can."""
        faults = []
        for path in paths:
            image = self.reader.attempt(path)
            if not isinstance(image, Unreadable):
                return tuple(image.shape)
            faults.append(str(image))
        raise Unreadable(listed(faults))

    def _read(self, paths: list[Path], shape: tuple[int, ...]) -> Tensor:
        """All images, (n, C, H, W); threads suffice: Pillow decodes without the interpreter's lock."""
        from tqdm import tqdm

        images = torch.empty(len(paths), *shape, dtype=torch.uint8)
        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            decoded = pool.map(lambda path: self.reader.attempt(path, shape), paths)
            faults = []
            for index, image in enumerate(tqdm(decoded, "reading images", len(paths), disable=len(paths) < 2000)):
                if isinstance(image, Unreadable):
                    faults.append(str(image))
                else:
                    images[index] = image
        if faults:
            raise Unreadable(listed(faults))
        return images

    def _labelled_files(self) -> tuple[list[Path], Tensor | None]:
        """The files in the order of their names, and their labels or None; ValueError for a mixed folder."""
        files = image_files(self.path)
        if not files:
            raise FileNotFoundError(
                f"data.path={self.path} holds no PNG, JPEG or WebP image: set data.path to one that does"
            )
        flat = [path for path in files if path.parent == self.path]
        if len(flat) == len(files):
            return files, None
        if flat:
            raise ValueError(f"{flat[0]} lies beside class folders: move it into one of them")
        names = [path.relative_to(self.path).parts[0] for path in files]
        classes, labels = numpy.unique(names, return_inverse=True)
        self._check_classes(classes)
        self.classes = len(classes)
        return files, torch.from_numpy(labels)

    def _check_classes(self, classes: Sequence[str]) -> None:
        """ValueError for folders that are splits, or hold no image."""
        if len({"train", "val", "valid", "validation", "test"} & {name.lower() for name in classes}) > 1:
            raise ValueError(
                f"{self.path} holds splits, not classes ({', '.join(classes)}): set data.path to one of them"
            )
        empty = [path for path in sorted(self.path.iterdir()) if path.is_dir() and path.name not in classes]
        if empty := [str(path) for path in empty if path.name[0] != "." and path.name != "__MACOSX"]:
            raise ValueError(
                f"{', '.join(empty[:SHOWN])} {'hold' if len(empty) > 1 else 'holds'} no PNG, JPEG or WebP image, and "
                "would be no class: fill or remove it"
            )

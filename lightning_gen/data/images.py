"""Data sets of encoded images: in memory where they fit, else streamed by workers, with the same batches."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy
import torch
from torch import Tensor

from lightning_gen.bar import bar
from lightning_gen.data.base import GenerativeData, partition
from lightning_gen.data.file_split import SHOWN, FileSplit, Fit, Reader, listed
from lightning_gen.data.image_files import FORMATS, Encoded
from lightning_gen.data.split import Split
from lightning_gen.errors import Unreadable
from lightning_gen.options import Count, Natural, Rate

AUTO = "auto"
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}  # as data sets name them
SIZES = (8, 16, 32)  # that a network of the laptop's kind learns in hours
BATCHES = (4, 8, 16, 32, 64)
BATCHES_OF_EPOCH = 8  # at least, where the images suffice
GREY = ("1", "L", "LA")


class Part(NamedTuple):
    """What is in one split before it is read.

    Args:
        items: the encoded images, in order.
        labels: int64 (n,), or null.
    """

    items: Sequence[Encoded]
    labels: Tensor | None


class Survey(NamedTuple):
    """Sizes (width, height) of pictures, pixels, and whether all are grey, from their headers."""

    sizes: list[tuple[int, int]]
    grey: bool

    @classmethod
    def of(cls, items: Sequence[Encoded]) -> "Survey":
        """Of those whose headers can be read: the others are named where they are read."""
        from PIL import Image

        sizes, grey = [], True
        for item in items:
            try:
                with item.open("rb") as stream, Image.open(stream, formats=FORMATS) as image:
                    sizes.append(image.size)
                    grey = grey and image.mode in GREY
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                continue
        return cls(sizes, grey and bool(sizes))

    def __str__(self) -> str:
        widths, heights = zip(*self.sizes, strict=True) if self.sizes else ((0,), (0,))
        least, most = f"{min(widths)}x{min(heights)}", f"{max(widths)}x{max(heights)}"
        span = least if least == most else f"{least} to {most}"
        return f"{len(self.sizes):,} {'grey' if self.grey else 'colour'} pictures of {span} pixels"

    def size(self) -> int:
        """The largest of SIZES that the shorter side of half of the pictures has, or the smallest."""
        shorter = median(min(size) for size in self.sizes) if self.sizes else 0
        return max([size for size in SIZES if size <= shorter], default=SIZES[0])


class Images(GenerativeData):
    """Encoded images, of files or of what holds many: each is decoded, made upright, resized and cut in one way.

    A split that the data do not have is held out of train.

    Args:
        batch_size: samples of a step, all ranks together; auto: the largest of 4, 8, ..., 64 with 8 batches an epoch.
        val_size: images held out of train for validation, a number or a fraction, the same for every seed; where the
            data have a split for it, none are.
        test_size: the same for the test.
        size: after bicubic resizing, pixels, of the shorter side, or where it is padded of the longer; null keeps it;
            auto: the largest of 8, 16 and 32 that the shorter side of half of the pictures has.
        fit: crop cuts the centre out, pad fills up with white, both to size x size pixels; null keeps the proportion.
        mode: RGB, or L for grey; auto: L where all are grey.
        workers: processes that read images in training, where they do not fit in memory.
        memory_limit: bytes of images, up to which all are kept on the training device.
    """

    def __init__(
        self,
        *,
        batch_size: Count | Literal["auto"] = 128,
        val_size: Natural | Rate = 0.05,
        test_size: Natural | Rate = 0.1,
        size: Count | Literal["auto"] | None = None,
        fit: Fit | None = "crop",
        mode: Literal["RGB", "L", "auto"] = "RGB",
        workers: Natural = 2,
        memory_limit: Natural = 2 * 2**30,
        **options: Any,
    ) -> None:
        super().__init__(binarise=None, batch_size=1 if batch_size == AUTO else batch_size, **options)
        self.asked = {"size": size, "mode": mode, "batch_size": batch_size}
        self.fit = fit
        self.sizes = {"test": test_size, "val": val_size}
        self.workers, self.memory_limit = workers, memory_limit

    @abstractmethod
    def parts(self) -> dict[str, Part]:
        """The splits that the data have, train among them; `classes` is known afterwards. No image is read whole."""

    def check_files(self) -> None:
        """What `prepare_data` and `parts` raise, Unreadable where no image can be read."""
        self.prepare_data()
        self._first_shape(Reader(None, None, "RGB"), self.parts()["train"].items)

    def load(self) -> Mapping[str, Split]:
        """The splits, in memory where all images fit."""
        self.prepare_data()
        parts = self.parts()
        self.own = set(parts)
        every = [item for part in parts.values() for item in part.items]
        reader = self._reader(every)
        shape = self._first_shape(reader, parts["train"].items)
        splits = {}
        for name, (items, labels) in parts.items():
            if len(every) * torch.Size(shape).numel() > self.memory_limit:
                splits[name] = FileSplit(reader, items, shape, labels, self.workers)
            else:
                splits[name] = Split(self._read(reader, items, shape), labels)
        whole, count = splits.pop("train"), len(parts["train"].items)
        asked = {name: size for name, size in self.sizes.items() if name not in splits}
        sizes = {f"{name}_size": int(n * count) if isinstance(n, float) else n for name, n in asked.items()}
        splits |= partition(whole, "folder", **sizes)  # the name is a part of the draw, which runs have stored
        if self.asked["batch_size"] == AUTO:
            self.batch_size = batch_size(len(splits["train"]))
        return splits

    def chosen(self) -> dict[str, Any]:
        """The values of the arguments that are auto, once the data are read."""
        self.setup()
        values = {"size": self.reader.size, "mode": self.reader.mode, "batch_size": self.batch_size}
        return {key: values[key] for key, asked in self.asked.items() if asked == AUTO}

    def introduced(self) -> str:
        """Its name and the sizes of its splits; where something is chosen, what the pictures are, what was chosen, and
        the word that changes it."""
        chosen = self.chosen()
        sizes = ", ".join(f"{len(self.split(name)):,} {name}" for name in ("train", "val", "test"))
        if own := [name for name in ("val", "test") if name in self.own]:
            keys = " and ".join(f"data.{name}_size" for name in own)
            sizes += f" ({' and '.join(own)} as the data have them, whatever the value of {keys})"
        if not chosen:
            return f"{self.name}: {sizes}"
        words = " ".join(f"data.{key}={value}" for key, value in chosen.items())
        classes = f"; {self.classes} classes, which module.classes={self.classes} learns" if self.classes else ""
        return f"{self.name}: {self.survey}; {sizes}{classes}\nchosen for them: {words} data.fit={self.fit or 'null'}"

    def _reader(self, items: Sequence[Encoded]) -> Reader:
        """The reader of an image, with what is chosen from all."""
        size, mode = self.asked["size"], self.asked["mode"]
        if AUTO in self.asked.values():  # the run says what was chosen from
            self.survey = Survey.of(items)
            size = self.survey.size() if size == AUTO else size
            mode = ("L" if self.survey.grey else "RGB") if mode == AUTO else mode
        self.reader = Reader(size, self.fit, mode)
        return self.reader

    def _first_shape(self, reader: Reader, items: Sequence[Encoded]) -> tuple[int, ...]:
        """(C, H, W) of the first image that can be read; Unreadable where none can."""
        faults = []
        for item in items:
            image = reader.attempt(item)
            if not isinstance(image, Unreadable):
                return tuple(image.shape)
            faults.append(str(image))
        raise Unreadable(listed(faults))

    def _read(self, reader: Reader, items: Sequence[Encoded], shape: tuple[int, ...]) -> Tensor:
        """All images, (n, C, H, W); threads suffice: Pillow decodes without the interpreter's lock."""
        images = torch.empty(len(items), *shape, dtype=torch.uint8)
        with ThreadPoolExecutor(max(1, self.workers)) as pool, bar("reading images", len(items), leave=False) as shown:
            decoded = pool.map(lambda item: reader.attempt(item, shape), items)
            faults = []
            for index, image in enumerate(decoded):
                shown.update()
                if isinstance(image, Unreadable):
                    faults.append(str(image))
                else:
                    images[index] = image
        if faults:
            raise Unreadable(listed(faults))
        return images


def class_numbers(names: Mapping[str, Sequence[str]], source: str) -> tuple[list[str], dict[str, Tensor]]:
    """The classes of train by name, sorted, and the number (n,) of each name of each split.

    ValueError, which names the data by `source`, for a split with classes that train has not.
    """
    classes = sorted(set(names["train"]))
    for split, found in names.items():
        if more := sorted(set(found) - set(classes)):
            raise ValueError(
                f"{source}: {split} holds the classes {', '.join(more[:SHOWN])}, expected those of train, "
                f"{', '.join(classes[:SHOWN])}: move their pictures, or take them out"
            )
    return classes, {split: torch.from_numpy(numpy.searchsorted(classes, found)) for split, found in names.items()}


def batch_size(count: int) -> int:
    """The largest of BATCHES that makes enough batches of `count` images; all images where there are fewer than 4."""
    return max([size for size in BATCHES if size * BATCHES_OF_EPOCH <= count], default=max(1, min(BATCHES[0], count)))

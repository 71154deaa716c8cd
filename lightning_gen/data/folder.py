"""Images from a folder: in memory where they fit, else streamed by workers, with the same batches."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy
import torch
from torch import Tensor

from lightning_gen.data.base import GenerativeData, partition
from lightning_gen.data.file_split import SHOWN, FileSplit, Fit, Reader, listed
from lightning_gen.data.image_files import FORMATS, image_files
from lightning_gen.data.split import Split
from lightning_gen.errors import Unreadable
from lightning_gen.options import Count, Natural, Rate

AUTO = "auto"
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}  # names of folders
SIZES = (8, 16, 32)  # that a network of the laptop's kind learns in hours
BATCHES = (4, 8, 16, 32, 64)
BATCHES_OF_EPOCH = 8  # at least, where the images suffice
GREY = ("1", "L", "LA")


class Survey(NamedTuple):
    """Sizes (width, height) of pictures, pixels, and whether all are grey, from their headers."""

    sizes: list[tuple[int, int]]
    grey: bool

    @classmethod
    def of(cls, paths: Sequence[Path]) -> "Survey":
        """Of the files whose headers can be read: the others are named where they are read."""
        from PIL import Image

        sizes, grey = [], True
        for path in paths:
            try:
                with Image.open(path, formats=FORMATS) as image:
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


class Folder(GenerativeData):
    """PNG, JPEG and WebP images below `path`: sub-folders are the classes, or all lie flat and have no label.

    Where `path` holds a folder train, and val (or valid, validation) or test, these are the splits, and what is below
    them as above; a split without a folder is held out of train.

    Args:
        path: of the folder; its name is the data set's.
        batch_size: samples of a step, all ranks together; auto: the largest of 4, 8, ..., 64 with 8 batches an epoch.
        val_size: images held out for validation, a number or a fraction of all, the same for every seed.
        test_size: images held out for the test, a number or a fraction of all, the same for every seed.
        size: after bicubic resizing, pixels, of the shorter side, or where it is padded of the longer; null keeps it;
            auto: the largest of 8, 16 and 32 that the shorter side of half of the pictures has.
        fit: crop cuts the centre out, pad fills up with white, both to size x size pixels; null keeps the proportion.
        mode: RGB, or L for grey; auto: L where all are grey.
        workers: processes that read images in training, where they do not fit in memory.
        memory_limit: bytes of images, up to which all are kept on the training device.
    """

    def __init__(
        self,
        path: str,
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
        self.path = Path(path)
        self.name = self.path.name
        self.asked = {"size": size, "mode": mode, "batch_size": batch_size}
        self.fit = fit
        self.sizes = {"test": test_size, "val": val_size}
        self.workers, self.memory_limit = workers, memory_limit

    def prepare_data(self) -> None:
        """FileNotFoundError where the folder is missing."""
        if not self.path.is_dir():
            raise FileNotFoundError(f"data.path={self.path} is not a folder: set data.path to a folder of images")

    def check_files(self) -> None:
        """FileNotFoundError or ValueError for what is no folder of images, Unreadable where none can be read."""
        self.prepare_data()
        parts = [self._labelled_files(folder) for folder in self._folders().values()]
        self._first_shape(self._reader([path for paths, _ in parts for path in paths]), parts[0][0])

    def load(self) -> Mapping[str, Split]:
        """The splits, in memory where all images fit."""
        self.prepare_data()
        parts = {name: self._labelled_files(folder) for name, folder in self._folders().items()}
        self._check_labels({name: labels for name, (_, labels) in parts.items()})
        every = [path for paths, _ in parts.values() for path in paths]
        reader = self._reader(every)
        shape = self._first_shape(reader, parts["train"][0])
        splits = {}
        for name, (paths, names) in parts.items():
            labels = None if names is None else torch.from_numpy(numpy.searchsorted(self._names, names))
            if len(every) * torch.Size(shape).numel() > self.memory_limit:
                splits[name] = FileSplit(reader, paths, shape, labels, self.workers)
            else:
                splits[name] = Split(self._read(reader, paths, shape), labels)
        whole, count = splits.pop("train"), len(parts["train"][0])
        asked = {name: size for name, size in self.sizes.items() if name not in splits}
        sizes = {f"{name}_size": int(n * count) if isinstance(n, float) else n for name, n in asked.items()}
        splits |= partition(whole, "folder", **sizes)
        if self.asked["batch_size"] == AUTO:
            self.batch_size = batch_size(len(splits["train"]))
        return splits

    def chosen(self) -> dict[str, Any]:
        """The values of the arguments that are auto, once the data are read."""
        self.setup()
        values = {"size": self.reader.size, "mode": self.reader.mode, "batch_size": self.batch_size}
        return {key: values[key] for key, asked in self.asked.items() if asked == AUTO}

    def introduced(self) -> str:
        """Its name; where something is chosen, what the pictures are, what was chosen, and the word that changes it."""
        chosen = self.chosen()
        if not chosen:
            return self.name
        sizes = ", ".join(f"{len(self.split(name)):,} {name}" for name in ("train", "val", "test"))
        words = " ".join(f"data.{key}={value}" for key, value in chosen.items())
        classes = f"; {self.classes} class folders, which module.classes={self.classes} learns" if self.classes else ""
        return f"{self.name}: {self.survey}; {sizes}{classes}\nchosen for them: {words} data.fit={self.fit or 'null'}"

    def _reader(self, paths: Sequence[Path]) -> Reader:
        """The reader of a file, with what is chosen from all."""
        size, mode = self.asked["size"], self.asked["mode"]
        if AUTO in (size, mode):
            self.survey = Survey.of(paths)
            size = self.survey.size() if size == AUTO else size
            mode = ("L" if self.survey.grey else "RGB") if mode == AUTO else mode
        self.reader = Reader(size, self.fit, mode)
        return self.reader

    def _first_shape(self, reader: Reader, paths: Sequence[Path]) -> tuple[int, ...]:
        """(C, H, W) of the first file that can be read; Unreadable where none can."""
        faults = []
        for path in paths:
            image = reader.attempt(path)
            if not isinstance(image, Unreadable):
                return tuple(image.shape)
            faults.append(str(image))
        raise Unreadable(listed(faults))

    def _read(self, reader: Reader, paths: Sequence[Path], shape: tuple[int, ...]) -> Tensor:
        """All images, (n, C, H, W); threads suffice: Pillow decodes without the interpreter's lock."""
        from tqdm import tqdm

        images = torch.empty(len(paths), *shape, dtype=torch.uint8)
        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            decoded = pool.map(lambda path: reader.attempt(path, shape), paths)
            faults = []
            for index, image in enumerate(tqdm(decoded, "reading images", len(paths), disable=len(paths) < 2000)):
                if isinstance(image, Unreadable):
                    faults.append(str(image))
                else:
                    images[index] = image
        if faults:
            raise Unreadable(listed(faults))
        return images

    def _folders(self) -> dict[str, Path]:
        """The folder of each split that has one; all of `path` is train where it holds no splits."""
        found = {path.name.lower(): path for path in sorted(self.path.iterdir()) if path.is_dir()}
        names = [name for name in found if name in SPLITS]
        files = image_files(self.path) if names else []
        beside = [path for path in files if path.relative_to(self.path).parts[0].lower() not in names]
        if not names or (len(names) == 1 and (beside or names != ["train"])):
            return {"train": self.path}  # a class may be called train
        folders = {SPLITS[name]: found[name] for name in names}
        if "train" not in names or beside or len(folders) < len(names):
            fault = f"and {beside[0]} beside them" if beside else "expected train, and val or test"
            held = f"{self.path} holds the splits {', '.join(names)}"
            raise ValueError(f"{held}, {fault}: mend the folders, or set data.path to one of them")
        return folders

    def _labelled_files(self, folder: Path) -> tuple[list[Path], list[str] | None]:
        """The files in the order of their names, and the names of their classes or None; ValueError for a mixture."""
        files = image_files(folder)
        if not files:
            named = f"data.path={folder}" if folder == self.path else folder
            raise FileNotFoundError(f"{named} holds no PNG, JPEG or WebP image: set data.path to one that does")
        flat = [path for path in files if path.parent == folder]
        if len(flat) == len(files):
            return files, None
        if flat:
            raise ValueError(f"{flat[0]} lies beside class folders: move it into one of them")
        names = [path.relative_to(folder).parts[0] for path in files]
        self._check_empty(folder, set(names))
        return files, names

    def _check_labels(self, names: Mapping[str, list[str] | None]) -> None:
        """Take the classes from those of train; ValueError for a split with others, or with labels of its own."""
        train = names["train"]
        self._names = sorted(set(train or []))
        self.classes = None if train is None else len(self._names)
        for split, found in names.items():
            if (found is None) != (train is None):
                flat = "train" if train is None else split
                raise ValueError(f"{self.path}: {flat} lies flat, expected class folders as beside it: sort them alike")
            if more := sorted(set(found or []) - set(self._names)):
                raise ValueError(
                    f"{self.path}: {split} holds the classes {', '.join(more[:SHOWN])}, expected those of train, "
                    f"{', '.join(self._names[:SHOWN])}: move their pictures, or take them out"
                )

    def _check_empty(self, folder: Path, classes: set[str]) -> None:
        """ValueError for a folder that holds no image."""
        empty = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name not in classes]
        if empty := [str(path) for path in empty if path.name[0] != "." and path.name != "__MACOSX"]:
            raise ValueError(
                f"{', '.join(empty[:SHOWN])} {'hold' if len(empty) > 1 else 'holds'} no PNG, JPEG or WebP image, and "
                "would be no class: fill or remove it"
            )


def batch_size(count: int) -> int:
    """The largest of BATCHES that makes enough batches of `count` images; all images where there are fewer than 4."""
    return max([size for size in BATCHES if size * BATCHES_OF_EPOCH <= count], default=max(1, min(BATCHES[0], count)))

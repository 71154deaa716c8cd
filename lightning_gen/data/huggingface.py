"""Images of Hugging Face's `datasets`: a local folder, or a data set of the hub, whose rows stay in Arrow files."""

import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from lightning_gen.caching import cache_folder
from lightning_gen.data.image_files import Encoded
from lightning_gen.data.images import AUTO, SPLITS, Images, Part, class_numbers
from lightning_gen.errors import Unreadable, chain, first_line

HUB = re.compile(r"[\w.-]+(/[\w.-]+)?")  # names of data sets of the hub
LABELS = ("label", "labels")  # of columns without class names


class Row(NamedTuple):
    """The encoded image of one row.

    Args:
        rows: of one column, Arrow's, which stay in their file.
        index: of the row.
        source: of the rows, for messages.
        file: whose size and times tell whether the rows may have changed.
    """

    rows: Any
    index: int
    source: str
    file: str

    def open(self, mode: str) -> BinaryIO:
        """The image's bytes; ValueError for a row without any."""
        value = self.rows[self.index].column(0)[0].as_py()
        content = value["bytes"] if isinstance(value, Mapping) else value
        if content is None:
            raise ValueError("it is null")
        return BytesIO(content)

    def __fspath__(self) -> str:
        return self.file

    def __str__(self) -> str:
        return f"{self.source}, row {self.index}"


class HuggingFace(Images):
    """Images of a data set that `datasets.load_dataset` reads: a folder of parquet, of images, ..., or a hub's name.

    Its splits train, validation and test are taken as they are, others are left out. Parquet is rewritten as Arrow
    once, which processes share and map to memory; that copy lies in the user's cache folder.
    Datasets (Lhoest et al., 2021), https://arxiv.org/abs/2109.02846, https://huggingface.co/docs/datasets

    Args:
        path: of the folder, or owner/name of the hub; its last part is the data set's name.
        subset: of a data set that has several; null where it has one.
        image: the column of the images; auto: the only one that holds encoded images.
        label: the column of the labels, of class names, whole numbers or text; auto: the only one of class names, or
            one called label or labels; null for none.
    """

    def __init__(
        self, path: str, *, subset: str | None = None, image: str = AUTO, label: str | None = AUTO, **options: Any
    ) -> None:
        super().__init__(**options)
        self.path, self.subset, self.columns = path, subset, {"image": image, "label": label}
        self.name = Path(path).name

    def check_files(self) -> None:
        """ValueError where `datasets` is not installed, FileNotFoundError for what is no folder and no hub's name."""
        imported()
        if not Path(self.path).is_dir() and not HUB.fullmatch(self.path):
            raise FileNotFoundError(
                f"data.path={self.path} is neither a folder nor a hub's name: set data.path to a folder, or owner/name"
            )

    def prepare_data(self) -> None:
        """Download what the hub has and write the Arrow files where they are missing, in one process (Lightning)."""
        self.check_files()
        self._read_dataset()

    def parts(self) -> dict[str, Part]:
        """The rows of each split; ValueError for splits or columns that are not found."""
        found = self._read_dataset()
        names = [name for name in found if name in SPLITS]
        known = {SPLITS[name]: found[name] for name in names}
        if len(known) < len(names):
            raise ValueError(
                f"data.path={self.path} has the splits {', '.join(names)}, expected one of each: rename one"
            )
        if not len(known.get("train", ())):
            held = f"data.path={self.path} has the splits {', '.join(found)}"
            raise ValueError(f"{held}, expected images in train: choose another")
        image, label = self._image_column(known["train"].features), self._label_column(known["train"].features)
        labels = self._labels(known, label) if label is not None else {}
        return {name: Part(self._items(rows, image, name), labels.get(name)) for name, rows in known.items()}

    def _read_dataset(self) -> Mapping[str, Any]:
        """The data set's splits by name; Unreadable, with the reason, where `datasets` cannot read it."""
        local = Path(self.path).is_dir()
        try:
            return imported().load_dataset(
                str(Path(self.path).resolve()) if local else self.path,
                self.subset,
                cache_dir=str(cache_folder() / "datasets"),
                keep_in_memory=False,
            )
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the disk
                raise
            reason = first_line([*chain(error)][-1])
            where = "" if local else ", which is no folder here,"
            remedy = "mend the folder" if local else "connect to the network, or name a folder"
            raise Unreadable(f"data.path={self.path}{where} cannot be read by datasets ({reason}): {remedy}") from error

    def _image_column(self, features: Mapping[str, Any]) -> str:
        """The column of the images; ValueError where there is none, or where several could be it."""
        datasets, name = imported(), self.columns["image"]
        kinds = [
            [name for name, kind in features.items() if isinstance(kind, datasets.Image)],
            [name for name, kind in features.items() if isinstance(kind, Mapping) and {"bytes", "path"} <= {*kind}],
            [name for name, kind in features.items() if getattr(kind, "dtype", None) == "binary"],
        ]
        possible = [name for names in kinds for name in names]
        if name in possible:
            return name
        found = next((names for names in kinds if names), [])
        if name != AUTO or len(found) != 1:
            asked = f"data.image is {name}" if name != AUTO else f"{len(found)} columns hold encoded images"
            raise ValueError(
                f"{asked}, data.path={self.path} has the columns {', '.join(features)}"
                + (f": set data.image to one of {', '.join(possible)}" if possible else ", none of encoded images")
            )
        return found[0]

    def _label_column(self, features: Mapping[str, Any]) -> str | None:
        """The column of the labels, or None; ValueError where several could be it, or none has that name."""
        name = self.columns["label"]
        if name is None or (name != AUTO and name in features):
            return name
        classes = [name for name, kind in features.items() if isinstance(kind, imported().ClassLabel)]
        found = classes or [name for name in LABELS if name in features]
        if name != AUTO or len(found) > 1:
            asked = f"data.label is {name}" if name != AUTO else f"{len(found)} columns are of labels"
            raise ValueError(
                f"{asked}, data.path={self.path} has the columns {', '.join(features)}: set data.label to one, or null"
            )
        return found[0] if found else None

    def _labels(self, found: Mapping[str, Any], name: str) -> dict[str, Tensor]:
        """int64 (n,) of each split, and `classes`; ValueError for missing, negative and other labels."""
        kind = found["train"].features[name]
        values = {split: rows.data.column(name) for split, rows in found.items()}
        for split, column in values.items():
            if column.null_count:
                raise ValueError(
                    f"{self.path}: {column.null_count} of {len(column)} rows of {split} have no {name}: "
                    "fill them, or set data.label=null"
                )
        if getattr(kind, "dtype", None) in ("string", "large_string"):
            names = {split: column.to_pylist() for split, column in values.items()}
            classes, labels = class_numbers(names, self.path)
            self.classes = len(classes)
            return labels
        if "int" not in str(getattr(kind, "dtype", None)):
            raise ValueError(
                f"data.label={name} holds {kind}, expected class names, whole numbers or text: set it to another "
                "column, or to null"
            )
        labels = {split: torch.from_numpy(column.to_numpy().astype("int64")) for split, column in values.items()}
        for split, numbers in labels.items():
            if len(numbers) and numbers.min() < 0:
                raise ValueError(
                    f"{self.path}: {split} has the label {int(numbers.min())} in {name}, expected whole numbers >= 0: "
                    "set data.label=null"
                )
        highest = max(int(numbers.max()) for numbers in labels.values() if len(numbers))
        self.classes = getattr(kind, "num_classes", None) or highest + 1
        return labels

    def _items(self, rows: Any, column: str, split: str) -> Sequence[Encoded]:
        """The images of a split: rows that hold them, and files that rows name."""
        pictures, source = rows.select_columns([column]).with_format("arrow"), f"{self.path}, split {split}"
        # A file of the cache that changes becomes the newest.
        written = [file["filename"] for file in rows.cache_files]
        newest = max(written, key=lambda file: Path(file).stat().st_mtime_ns, default="")
        items: list[Encoded] = []
        for chunk in rows.data.column(column).chunks:
            files = [None] * len(chunk)
            if isinstance(pictures.features[column], Mapping | imported().Image):
                inside = chunk.field("bytes").is_valid().to_pylist()
                named = zip(inside, chunk.field("path").to_pylist(), strict=True)
                files = [None if here else path for here, path in named]
            numbered = enumerate(files, len(items))
            items += [Path(file) if file else Row(pictures, row, source, newest) for row, file in numbered]
        return items


def imported() -> Any:
    """The package datasets; ValueError where it is not installed."""
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            "data=hf needs the package datasets, which is not installed: pip install 'lightning-gen[hf]'"
        ) from error
    return datasets

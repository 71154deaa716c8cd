"""Images in tar files of WebDataset's layout, read at any place, so that they are files to all that comes after."""

import re
import tarfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch

from lightning_gen.data.file_split import Reader
from lightning_gen.data.files import reading
from lightning_gen.data.image_files import OTHER, READ
from lightning_gen.data.images import AUTO, SPLITS, Images, Part
from lightning_gen.options import LocalPath

REMEDY = "write it anew, or take it out"
COMPRESSED = re.compile(r"\.(tgz|tbz2|txz|tar\.\w+)$")


class Member(NamedTuple):
    """One file in a shard.

    Args:
        shard: the tar file.
        name: in it.
        offset: of its first byte in the shard.
        size: bytes.
    """

    shard: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Its content; ValueError where the shard ends before."""
        with open(self.shard, "rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise ValueError("the shard ends within it")
        return content

    def open(self, mode: str) -> BinaryIO:
        """Its content as a file."""
        return BytesIO(self.read())

    def __fspath__(self) -> str:
        return str(self.shard)

    def __str__(self) -> str:
        return f"{self.name} in {self.shard}"


class WebDataset(Images):
    """Images of tar files below `path`: files of one name are a sample, 0001.jpg its image and 0001.cls its label.

    A shard belongs to the split that its name or its folder has as a word, as in images-train-0001.tar or test/1.tar;
    without such words all are train. The heads of all files in the shards are read at the start, and then any image by
    its place, so that shards need not be of one length. WebDataset (Aizman, Maltby & Breuel, 2019),
    https://arxiv.org/abs/2001.01858, https://github.com/webdataset/webdataset

    Args:
        path: of the folder with the shards, *.tar; its name is the data set's.
        image: what the names of images end in, as jpg or left.png; auto: the only ending of PNG, JPEG or WebP.
        label: what the names of labels end in, files with a whole number >= 0; auto: cls where the first sample has it;
            null for none.
    """

    def __init__(self, path: LocalPath, *, image: str = AUTO, label: str | None = AUTO, **options: Any) -> None:
        super().__init__(**options)
        self.path, self.image, self.label = Path(path), image, label
        self.name = self.path.name

    def prepare_data(self) -> None:
        """FileNotFoundError where the folder is missing."""
        if not self.path.is_dir():
            raise FileNotFoundError(f"data.path={self.path} is not a folder: set data.path to the folder of the shards")

    def check_files(self) -> None:
        """FileNotFoundError or ValueError for a folder without shards, or with others; of these the first is read."""
        self.prepare_data()
        first = next(iter(self._shards().values()))[:1]
        part = self._part(first)
        self._first_shape(Reader(None, None, "RGB"), part.items)

    def parts(self) -> dict[str, Part]:
        """The images of each split; ValueError for a sample that is not whole, Unreadable for a damaged shard."""
        parts = {name: self._part(shards) for name, shards in self._shards().items()}
        labelled = {name: part.labels for name, part in parts.items() if part.labels is not None}
        if labelled and len(labelled) < len(parts):
            held = f"{self.path}: of {', '.join(parts)} only {', '.join(labelled)} has labels"
            raise ValueError(f"{held}: add the others, or set data.label=null")
        self.classes = 1 + max(int(labels.max()) for labels in labelled.values()) if labelled else None
        return parts

    def _shards(self) -> dict[str, list[Path]]:
        """The shards of each split, by name."""
        files = sorted(path for path in self.path.rglob("*") if path.is_file() and not path.name.startswith("."))
        if closed := [path for path in files if COMPRESSED.search(path.name)]:
            raise ValueError(f"{closed[0]} is compressed, so that no place in it can be read: unpack it to a .tar")
        shards = [path for path in files if path.suffix == ".tar"]
        if not shards:
            raise FileNotFoundError(f"data.path={self.path} holds no .tar: set data.path to the folder of the shards")
        found: dict[str, list[Path]] = {}
        for shard in shards:
            words = re.split(r"[^a-z]+", str(shard.relative_to(self.path)).lower())
            found.setdefault(next((SPLITS[word] for word in words if word in SPLITS), ""), []).append(shard)
        if "" in found and len(found) > 1:
            raise ValueError(
                f"{found[''][0]} names no split, expected train, val or test as in the other shards: rename or move it"
            )
        if "" not in found and "train" not in found:
            raise ValueError(f"{self.path} holds shards of {', '.join(found)} alone, expected train: add its shards")
        return {name or "train": shards for name, shards in found.items()}

    def _part(self, shards: list[Path]) -> Part:
        """The images and labels of shards."""
        items, labels = [], []
        for shard in shards:
            for key, files in samples(shard):
                items.append(self._image(shard, key, files))
                if self.label == AUTO:
                    self.label = "cls" if "cls" in files else None
                if self.label is not None:
                    labels.append(self._label(shard, key, files))
        if not items:
            raise ValueError(f"{shards[0]} holds no sample, nor do the other shards of its split: fill or remove them")
        return Part(items, torch.tensor(labels) if labels else None)

    def _image(self, shard: Path, key: str, files: Mapping[str, Member]) -> Member:
        """The image of a sample; ValueError for none, or for several."""
        if self.image in files:
            return files[self.image]
        found = [ending for ending in files if f".{ending}".endswith(READ)]
        if self.image == AUTO and len(found) == 1:
            return files[found[0]]
        held = f"sample {key} in {shard} holds {', '.join(f'.{ending}' for ending in files)}"
        if self.image == AUTO and found:
            raise ValueError(f"{held}, of which several are images: set data.image to one, as data.image={found[0]}")
        if other := [ending for ending in files if f".{ending}".endswith(OTHER)]:
            raise ValueError(f"{held}, and .{other[0]} is not PNG, JPEG or WebP: convert it, or take it out")
        wanted = "image as PNG, JPEG or WebP" if self.image == AUTO else f".{self.image}, as data.image says"
        raise ValueError(f"{held}, and no {wanted}: add it, or take the sample out")

    def _label(self, shard: Path, key: str, files: Mapping[str, Member]) -> int:
        """The label of a sample; ValueError for none, or one that is no whole number."""
        if self.label not in files:
            raise ValueError(
                f"sample {key} in {shard} has no label, .{self.label}, as others have: add it, or set data.label=null"
            )
        content = files[self.label].read()
        if not re.fullmatch(rb"\s*\d{1,9}\s*", content):
            raise ValueError(
                f"sample {key} in {shard} has the label {content[:20]!r}, expected a whole number >= 0: mend it, or "
                "set data.label=null"
            )
        return int(content)


def samples(shard: Path) -> Iterator[tuple[str, dict[str, Member]]]:
    """The samples of a shard: key, and files by what their names end in after the first dot, in small letters.

    Unreadable for a shard that is damaged or cut off, ValueError for a key that comes again. Files without a dot and
    hidden ones are left out, as WebDataset does.
    """
    found: dict[str, dict[str, Member]] = {}
    last = None
    with (
        reading(shard, REMEDY, " as a tar"),
        open(shard, "rb") as stream,
        tarfile.open(fileobj=stream, mode="r:") as tar,
    ):
        for info in tar:
            folder, slash, name = info.name.rpartition("/")
            stem, _, ending = name.partition(".")
            if not (info.isreg() and stem and ending) or info.issparse():
                continue
            key, ending = f"{folder}{slash}{stem}", ending.lower()
            if ending in found.get(key, {}) or (key in found and key != last):
                raise ValueError(f"{info.name} belongs to sample {key}, which was complete before it")
            found.setdefault(key, {})[ending] = Member(shard, info.name, info.offset_data, info.size)
            last = key
        # tarfile takes a damaged head for the end.
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise ValueError(f"it is damaged or cut off after {last}")
    yield from found.items()

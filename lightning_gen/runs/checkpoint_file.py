"""Checkpoint files: a kill cannot destroy the last good one, and a damaged one cannot pass for good."""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from lightning_gen.errors import first_line, out_of_memory
from lightning_gen.runs.atomic import replacing

MARK = b"sha256:"
COMMENT = len(MARK) + 64  # bytes of the digest in the comment at the end of torch's zip archive
CHUNK = 1 << 20
PARTS = ("state_dict", "global_step", "epoch", "pytorch-lightning_version")  # of every checkpoint by Lightning
_verified: dict[Path, tuple[int, ...]] = {}  # this process's last file of each name, as it was once verified


class Damaged(ValueError):
    """A file whose content is not what was written."""


def write(checkpoint: dict[str, Any], path: Path) -> None:
    """Replace `path` by a checkpoint of plain containers and tensors, verified before it takes the name."""
    import torch

    with replacing(path) as partial:
        with partial.open("wb") as file:
            hashed = _Hashed(file)
            try:
                torch.save(checkpoint, hashed)
            except RuntimeError as error:  # torch's, which says nothing of the disk
                if hashed.failure is None:
                    raise
                raise OSError(hashed.failure.errno, hashed.failure.strerror, str(path)) from error
            file.seek(-2, os.SEEK_END)
            file.write(_comment(hashed.digest.hexdigest()))
        if (reason := damage(partial)) is not None:
            raise OSError(f"{partial} cannot be read back ({reason}): check the disk; {path} is unchanged")
        _verified[path.absolute()] = _state(partial)


def read(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The plain containers and tensors of a checkpoint; Damaged if its content is not what was written."""
    import torch

    if (reason := damage(path)) is not None:
        raise Damaged(f"{path} is damaged ({reason})")
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        if out_of_memory(error):
            raise
        raise Damaged(f"{path} cannot be read as a checkpoint of plain tensors ({first_line(error)})") from error
    return checkpoint


def check_parts(checkpoint: Any, path: Path) -> None:
    """ValueError for the content of another file than a run's checkpoint."""
    lacks = [key for key in PARTS if not isinstance(checkpoint, dict) or key not in checkpoint]
    if lacks or not isinstance(checkpoint["state_dict"], dict):
        raise ValueError(f"{path} is no checkpoint of a run (it lacks {', '.join(lacks) or 'weights'}): name another")


def damage(path: Path) -> str | None:
    """Why the file is not what was written; None for an intact one.

    Files of older versions have no digest; of them the CRC-32 of each part of the archive is compared.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - COMMENT - 2))
        tail = file.read()
        if tail[2:].startswith(MARK):
            expected = _comment(_digest(file, size - COMMENT - 2))
            return None if tail == expected else "its SHA-256 differs"
        if tail[-22:-18] != b"PK\5\6":
            return "its end is missing or overwritten"
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        return str(error)
    return None if part is None else f"the CRC-32 of {part} differs"


def steps(path: Path) -> int | None:
    """Optimizer steps of an intact checkpoint; None of a file that is none."""
    try:
        checkpoint = read(path)
        check_parts(checkpoint, path)
    except ValueError:
        return None
    return checkpoint["global_step"]


def previous(path: Path) -> Iterator[Path]:
    """The older files that `write` keeps beside `path`, newest first."""
    number = 1
    while (older := path.with_name(f"{path.stem}-{number}{path.suffix}")).is_file():
        yield older
        number += 1


@contextmanager
def keeping(path: Path, keep: int, replaced: bool = True) -> Iterator[None]:
    """Keep the intact file of before as last-1.ckpt (of last.ckpt), and older ones, `keep` in all.

    Args:
        path: the file that is written within.
        keep: number of files, this one too.
        replaced: whether a new file takes its name; False where the old one may be written into.
    """
    older = [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, keep)]
    link = path.with_name(path.name + ".previous")
    link.unlink(missing_ok=True)
    # What this process has verified, and nobody has written to since, need not be read again.
    if older and path.is_file() and (_verified.get(path.absolute()) == _state(path) or damage(path) is None):
        try:  # a second name, so that there is a last.ckpt at every moment
            (os.link if replaced else shutil.copyfile)(path, link)
        except OSError:  # a file system without links
            shutil.copyfile(path, link)
    try:
        yield
        if link.is_file():
            for new, old in reversed(list(zip([link, *older], older, strict=False))):
                if new.is_file():
                    os.replace(new, old)
    finally:
        link.unlink(missing_ok=True)


def _state(path: Path) -> tuple[int, ...]:
    """What changes when a file is written to, or is another."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


class _Hashed:
    """A file that is written from its start to its end, and the SHA-256 of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        """Append bytes; their number."""
        self.digest.update(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        """Nothing, for the file is flushed once it is complete."""


def _comment(hexdigest: str) -> bytes:
    """Length and text of an archive's comment."""
    return COMMENT.to_bytes(2, "little") + MARK + hexdigest.encode()


def _digest(file: BinaryIO, size: int) -> str:
    """SHA-256 of an archive without comment: its first `size` bytes, and 0 for the comment's length."""
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0 and (chunk := file.read(min(CHUNK, size))):
        digest.update(chunk)
        size -= len(chunk)
    digest.update(b"\0\0")
    return digest.hexdigest()

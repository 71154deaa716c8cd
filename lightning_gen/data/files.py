"""Reading files of the data: whatever goes wrong with one names it; and what tells the content of many."""

import hashlib
import os
import re
import secrets
import time
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning_gen.bar import bar
from lightning_gen.errors import Unreadable, first_line, out_of_memory

READERS, BLOCK = 8, 32  # threads that hash files, and the files that one of them takes at a time
RECENT = 2_000_000_000  # ns, the coarsest time stamps: a file as new as this may change and keep them


@contextmanager
def reading(path: os.PathLike, remedy: str, how: str = ", it is damaged") -> Iterator[None]:
    """Unreadable, with the file's name and the remedy, for whatever reading it raises, of any type.

    Args:
        path: of the file, or of what is read as one.
        remedy: of a content that cannot be read.
        how: words after "cannot be read".
    """
    try:
        yield
    except Unreadable:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system refuses it, whatever it holds
            reason = (error.strerror or "").lower()
            raise Unreadable(f"{path} cannot be opened: {reason}: change that, or take it out") from error
        if out_of_memory(error):
            raise Unreadable(f"{path} is too large for the memory ({first_line(error)}): make it smaller") from error
        raise Unreadable(f"{path} cannot be read{how} ({first_line(error)}): {remedy}") from error


def read_arrays(path: Path, names: tuple[str, ...] | None, remedy: str) -> tuple[dict[str, Any], list[str]]:
    """Those of the arrays `names` (None: all) that an .npz has, and the names of all that it has.

    Unreadable for a damaged file.
    """
    import numpy

    with reading(path, remedy, " as an .npz"):
        if not path.stat().st_size:
            raise ValueError("it is empty, 0 bytes")
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no whole zip archive")
        # Pickled objects inside an archive could run code.
        with numpy.load(path, allow_pickle=False) as archive:
            wanted = archive.files if names is None else [name for name in names if name in archive.files]
            return {name: archive[name] for name in wanted}, archive.files


def content_digest(paths: Sequence[Any], labels: Sequence[int] | None, cache: Path | None = None) -> str:
    """The first 16 hex characters of the SHA-256 of the files' bytes, in their order, and of their labels; of
    images that lie together in files (image_files.Encoded), of the images' bytes.

    What `cache` keeps of files whose device, inode, size and times are the same is taken: a stat a file. The time of
    the last change (ctime) is among them, which no program can set back.
    """
    start = time.time_ns()
    stats = [os.stat(path) for path in paths]
    states = [(s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats]
    state = hashlib.sha256(f"{[*map(str, paths)]} {states} {labels}".encode()).hexdigest()
    kept = None if cache is None else cache / "contents" / state
    with suppress(OSError, UnicodeDecodeError):
        if kept is not None and re.fullmatch("[0-9a-f]{16}", known := kept.read_text()):
            return known
    digest = hashlib.sha256(f"{len(paths)} {labels}".encode() + b"".join(_digests(paths))).hexdigest()[:16]
    if kept is not None and all(max(s.st_mtime_ns, s.st_ctime_ns) < start - RECENT for s in stats):
        _keep(kept, digest)
    return digest


def _digests(paths: Sequence[Any]) -> Iterator[bytes]:
    """The SHA-256 of each file's bytes, in order; Unreadable for a file that cannot be read."""

    def block_digests(block: Sequence[Any]) -> list[bytes]:
        return [_digest(path) for path in block]

    with ThreadPoolExecutor(READERS - 1) as pool, bar("hashing images", len(paths), leave=False) as shown:
        for start in range(0, len(paths), READERS * BLOCK):
            many = paths[start : start + READERS * BLOCK]
            mine, *theirs = [many[first : first + BLOCK] for first in range(0, len(many), BLOCK)]
            others = pool.map(block_digests, theirs)
            yield from block_digests(mine)  # a main thread that only waits would be taken for one that hangs
            for block in others:
                yield from block
            shown.update(len(many))


def _digest(path: Any) -> bytes:
    with reading(path, "replace or delete it"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _keep(path: Path, content: str) -> None:
    """Write a file of the cache as a whole; a cache that cannot be written only costs time."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(content)
        os.replace(partial, path)

"""Reading a file of the data: whatever goes wrong with it names the file."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning_gen.errors import Unreadable, first_line, out_of_memory


@contextmanager
def reading(path: Path, remedy: str, how: str = ", it is damaged") -> Iterator[None]:
    """Unreadable, with the file's name and the remedy, for whatever reading it raises, of any type.

    Args:
        path: of the file.
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


def read_arrays(path: Path, names: tuple[str, ...], remedy: str) -> tuple[dict[str, Any], list[str]]:
    """Those of the arrays `names` that an .npz has, and the names of all that it has; Unreadable for a damaged one."""
    import numpy

    with reading(path, remedy, " as an .npz"):
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no whole zip archive")
        # Pickled objects inside an archive could run code.
        with numpy.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names if name in archive.files}, archive.files

"""The image formats that are read, the files of a folder, and the one function that opens a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from lightning_gen.data.files import reading
from lightning_gen.errors import Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow detects the format by content; its other readers start programs (EPS: Ghostscript) or are little tested.
FORMATS = ("PNG", "JPEG", "WEBP")
LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp")
READ = (".png", ".apng", *LOSSY)
OTHER = (".avif", ".bmp", ".cr2", ".dds", ".dng", ".eps", ".exr", ".gif", ".hdr", ".heic", ".heif", ".ico", ".j2k")
OTHER += (".jp2", ".jxl", ".nef", ".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psd", ".svg", ".tga", ".tif", ".tiff")
OTHER += (".xcf",)


class Encoded(Protocol):
    """An encoded image, which is a Path or is read as one; str says its name in messages."""

    def open(self, mode: str) -> BinaryIO:
        """Its bytes, for mode rb."""

    def __fspath__(self) -> str:
        """The file that holds it, whose size and times tell whether it may have changed."""


def image_files(folder: Path) -> list[Path]:
    """Image files below a folder, by name, links followed, hidden ones left out.

    ValueError for a picture of another format, and for a link to nothing, which would be left out without a word.
    """
    paths = sorted(_visible(folder, {folder.resolve()}))
    if broken := [path for path in paths if not path.exists() and path.suffix.lower() in ("", *READ)]:
        raise ValueError(f"{_named(broken)} a link to nothing: restore what it names, or take it out")
    if other := [path for path in paths if path.suffix.lower() in OTHER]:
        raise ValueError(f"{_named(other)} not PNG, JPEG or WebP: convert it, or take it out")
    return [path for path in paths if path.suffix.lower() in READ]


def _named(paths: list[Path]) -> str:
    """The first of several files, and how many there are."""
    return f"{paths[0]} is" + (f" (as are {len(paths) - 1} more)" if len(paths) > 1 else "")


def _visible(folder: Path, above: set[Path]) -> Iterator[Path]:
    """The files below a folder, but not through a link to one of the folders above it."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_file() or not path.exists():
            yield path
        elif path.is_dir() and (real := path.resolve()) not in above:
            yield from _visible(path, above | {real})


def open_image(item: Encoded) -> "Image":
    """The image, decoded and upright; Unreadable for a damaged or closed file, another format or 16 bits a channel."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    with reading(item, "replace or delete it"), item.open("rb") as stream:
        try:
            with Image.open(stream, formats=FORMATS) as file:
                # Pillow reads a PNG's 16 bits a channel as 8, without a word, where it has several channels.
                deep = file.format == "PNG" and not stream.seek(0) and stream.read(25)[24:] == b"\x10"
                if deep or file.mode.startswith(("I", "F")):
                    raise Unreadable(f"{item} has more than 8 bits a channel ({file.mode}): convert it to 8 bits")
                ImageOps.exif_transpose(file, in_place=True)  # which decodes it
                return file
        except UnidentifiedImageError:
            stream.seek(0)
            formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
            raise ValueError(f"or no {formats}, first bytes {stream.read(8)!r}") from None
        except Image.DecompressionBombError as error:
            raise Unreadable(f"{item} is too large to be read ({error}): make it smaller, or take it out") from error

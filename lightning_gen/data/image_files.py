"""The image formats that are read, the files of a folder, and the one function that opens a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_gen.errors import Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow detects the format by content; its other readers start programs (EPS: Ghostscript) or are little tested.
FORMATS = ("PNG", "JPEG", "WEBP")
LOSSY = (".jpg", ".jpeg", ".jfif", ".webp")
READ = (".png", *LOSSY)
OTHER = (".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".jp2", ".jxl", ".ppm", ".eps")


def image_files(folder: Path) -> list[Path]:
    """Image files below a folder, by name, links followed, hidden ones left out; ValueError for another format."""
    paths = sorted(_visible(folder, {folder.resolve()}))
    if other := [path for path in paths if path.suffix.lower() in OTHER]:
        raise ValueError(f"{other[0]} is not PNG, JPEG or WebP: convert it, or take it out")
    return [path for path in paths if path.suffix.lower() in READ]


def _visible(folder: Path, above: set[Path]) -> Iterator[Path]:
    """The files below a folder, but not through a link to one of the folders above it."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and (real := path.resolve()) not in above:
            yield from _visible(path, above | {real})


def open_image(path: Path) -> "Image":
    """The image, decoded and upright; Unreadable for a damaged or closed file, another format or 16 bits a channel."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with open(path, "rb") as stream, Image.open(stream, formats=FORMATS) as file:
            # Pillow reads a PNG's 16 bits a channel as 8, without a word, where it has several channels.
            stream.seek(0)
            deep = stream.read(25)[24:] == b"\x10" and file.format == "PNG"
            if deep or file.mode.startswith(("I", "F")):
                raise Unreadable(f"{path} has more than 8 bits a channel ({file.mode}): convert it to 8 bits")
            image = ImageOps.exif_transpose(file)
            image.load()
            return image
    except UnidentifiedImageError as error:
        with open(path, "rb") as file:
            head = file.read(8)
        raise Unreadable(
            f"{path} cannot be read, it is damaged or no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} "
            f"(first bytes {head!r}): replace or delete it"
        ) from error
    except Image.DecompressionBombError as error:
        raise Unreadable(f"{path} is too large to be read ({error}): make it smaller, or take it out") from error
    except (PermissionError, FileNotFoundError) as error:
        raise Unreadable(f"{path} cannot be opened: {error.strerror.lower()}: change that, or take it out") from error
    # Pillow's PNG reader reports a broken chunk as a SyntaxError.
    except (OSError, SyntaxError) as error:
        raise Unreadable(f"{path} cannot be read, it is damaged ({error}): replace or delete it") from error

"""The image formats that are read, the files of a folder, and the one function that opens a file."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow detects the format by content; its other readers start programs (EPS: Ghostscript) or are little tested.
FORMATS = ("PNG", "JPEG", "WEBP")
LOSSY = (".jpg", ".jpeg", ".jfif", ".webp")
READ = (".png", *LOSSY)
OTHER = (".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".jp2", ".jxl", ".ppm", ".eps")


def image_files(folder: Path) -> list[Path]:
    """Image files below a folder, by name, hidden ones left out; ValueError for an image of another format."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    paths = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if other := [path for path in paths if path.suffix.lower() in OTHER]:
        raise ValueError(f"{other[0]} is not PNG, JPEG or WebP: convert it, or take it out")
    return [path for path in paths if path.suffix.lower() in READ]


def open_image(path: Path) -> "Image":
    """The image, decoded and upright; ValueError for a damaged file, another format, or 16 bits a channel."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path, formats=FORMATS) as file:
            if file.mode.startswith(("I", "F")):
                raise ValueError(f"{path} has more than 8 bits a channel ({file.mode}): convert it to 8 bits")
            image = ImageOps.exif_transpose(file)
            image.load()
            return image
    except UnidentifiedImageError as error:
        with open(path, "rb") as file:
            head = file.read(8)
        raise ValueError(
            f"{path} cannot be read, it is damaged or no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} "
            f"(first bytes {head!r}): replace or delete it"
        ) from error
    # Pillow's PNG reader reports a broken chunk as a SyntaxError.
    except (Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be read, it is damaged ({error}): replace or delete it") from error

"""The image formats that are read, the files of a folder, and the one function that opens a file."""

import struct
from collections.abc import Iterator
from io import BytesIO
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
# Markers of a JPEG file's segments: tables (DHT, DQT, DRI), comments (COM) and APP0 to APP15 but APP1, which has EXIF's
# orientation; the frame (SOF0 to SOF2); the scan (SOS), where the head ends.
SEGMENTS = frozenset((0xC4, 0xDB, 0xDD, 0xFE, 0xE0, *range(0xE2, 0xF0)))
FRAMES = frozenset((0xC0, 0xC1, 0xC2))
SCAN = 0xDA
SEGMENT, FRAME = struct.Struct(">BBH"), struct.Struct(">BHHB")  # 0xFF, marker, length; bits, height, width, channels
JPEG_MODES = {1: "L", 3: "RGB"}
SMALL = 2**20  # pixels up to which Pillow's reading of a JPEG file's head is a large part of the time
AT_ONCE = 2**24  # bytes of a file that are read before its format is known


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
        content = stream.read(AT_ONCE)
        if not content:
            raise Unreadable(f"{item} is empty: replace or delete it")
        whole = len(content) < AT_ONCE
        if whole and (plain := _plain_jpeg(content)) is not None:
            return plain
        stream.seek(0)
        try:
            with Image.open(BytesIO(content) if whole else stream, formats=FORMATS) as file:
                # Pillow reads a PNG's 16 bits a channel as 8, without a word, where it has several channels.
                if (file.format == "PNG" and content[24:25] == b"\x10") or file.mode.startswith(("I", "F")):
                    raise Unreadable(f"{item} has more than 8 bits a channel ({file.mode}): convert it to 8 bits")
                ImageOps.exif_transpose(file, in_place=True)  # which decodes it
                return file
        except UnidentifiedImageError:
            formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
            raise ValueError(f"or no {formats}, first bytes {content[:8]!r}") from None
        except Image.DecompressionBombError as error:
            raise Unreadable(f"{item} is too large to be read ({error}): make it smaller, or take it out") from error


def _plain_jpeg(content: bytes) -> "Image | None":
    """The image of a small grey or RGB JPEG file without an APP1 segment, by Pillow's decoder alone: the pixels that
    Image.open gives, without the metadata, which take a third of the time. None for all other content, and for damaged
    pixels; a damaged APP segment, for which Image.open refuses a file, is passed over."""
    from PIL import Image

    bits, height, width, channels = _jpeg_frame(content) or (0, 0, 0, 0)
    if bits != 8 or not 0 < height * width <= SMALL or channels not in JPEG_MODES:
        return None
    mode = JPEG_MODES[channels]
    try:
        return Image.frombytes(mode, (width, height), content, "jpeg", mode, "")
    except ValueError:
        return None


def _jpeg_frame(content: bytes) -> tuple[int, ...] | None:
    """Bits, height, width and channels from the head of a JPEG file. None for a head with more than one frame, or with
    other segments: the decoder writes as many pixels as it finds itself, so that it must find the same ones."""
    frame, start = None, 2
    if not content.startswith(b"\xff\xd8"):
        return None
    try:
        while True:
            begin, marker, length = SEGMENT.unpack_from(content, start)
            if begin != 0xFF:
                return None
            if marker == SCAN:
                return frame
            if marker in FRAMES and frame is None:
                frame = FRAME.unpack_from(content, start + SEGMENT.size)
            elif marker not in SEGMENTS:
                return None
            start += 2 + length
    except struct.error:  # the content ends
        return None

"""JPEG files: the short way to the decoder gives what Image.open gives, and leaves to it what it does not know."""

import io

import numpy
import pytest
import torch
from PIL import Image, ImageOps

from lightning_gen.data import image_files
from lightning_gen.data.file_split import Reader
from lightning_gen.data.image_files import open_image
from lightning_gen.errors import Unreadable

ORIENTATION = 0x0112
XMP = b"\xff\xe1\x00\x47http://ns.adobe.com/xap/1.0/\x00" + b'<x tiff:Orientation="6"/>'.ljust(0x47 - 31)


def picture(mode: str = "RGB", width: int = 45, height: int = 19) -> Image.Image:
    """Smooth in part, noise in part, of a size that no block divides."""
    y, x = numpy.mgrid[:height, :width]
    noise = numpy.random.default_rng(0).integers(0, 90, (height, width))
    image = Image.fromarray(numpy.stack([x * 5, y * 13 % 256, 80 + noise], axis=-1).astype(numpy.uint8))
    return image if mode == "RGB" else image.convert(mode)


def jpeg(image: Image.Image, **options) -> bytes:
    """As a file's content."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[ORIENTATION] = orientation
    return found


def before(part: bytes, inserted: bytes) -> bytes:
    """The content with a part inserted before the first of another kind."""
    content = jpeg(picture())
    start = content.index(part)
    return content[:start] + inserted + content[start:]


PLAIN = {
    "colour": jpeg(picture()),
    "grey": jpeg(picture("L")),
    **{f"subsampling {name}": jpeg(picture(), subsampling=name) for name in (0, 1, 2)},
    "progressive": jpeg(picture(), progressive=True, quality=95),
    "restarts": jpeg(picture(), restart_marker_blocks=2),
    "optimised": jpeg(picture(), optimize=True, quality=20),
    "comment and profile": jpeg(picture(), comment=b"\xff\xd8 a comment", icc_profile=bytes(300)),
    "RGB kept": jpeg(picture(), keep_rgb=True),
    "wide": jpeg(picture(width=1, height=700)),
    "an orientation after the pixels begin": jpeg(picture()) + XMP,
}
OTHER = {
    "CMYK": jpeg(picture("CMYK")),
    **{f"EXIF {n}": jpeg(picture(), exif=exif(n)) for n in range(1, 9)},
    "XMP": before(b"\xff\xdb", XMP),
    "XMP after the frame": before(b"\xff\xda", XMP),
    "filled up": before(b"\xff\xdb", b"\xff\xff"),
    "large": jpeg(Image.new("RGB", (1025, 1025))),
    "PNG": (lambda stream: picture().save(stream, "PNG") or stream.getvalue())(io.BytesIO()),
}


def by_pillow(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    ImageOps.exif_transpose(image, in_place=True)
    return image


@pytest.mark.parametrize("name", [*PLAIN, *OTHER])
def test_every_jpeg_is_read_as_pillow_reads_it(name, tmp_path):
    content = (PLAIN | OTHER)[name]
    (tmp_path / "a.jpg").write_bytes(content)
    expected, image = by_pillow(content), open_image(tmp_path / "a.jpg")
    assert (image_files._plain_jpeg(content) is None) == (name in OTHER)
    assert image.mode == expected.mode and image.size == expected.size and image.tobytes() == expected.tobytes()
    for mode in ("RGB", "L"):
        pixels = numpy.array(expected.convert(mode)).reshape(*expected.size[::-1], -1).transpose(2, 0, 1)
        rows = Reader(None, None, mode)(tmp_path / "a.jpg")
        assert torch.equal(rows, torch.from_numpy(pixels.copy())) and rows.is_contiguous()


@pytest.mark.parametrize("name", ["colour", "progressive", "comment and profile"])
def test_a_cut_jpeg_is_damaged_wherever_it_is_cut(name, tmp_path):
    for length in range(0, len(PLAIN[name]) - 2, 7):
        (tmp_path / "a.jpg").write_bytes(PLAIN[name][:length])
        with pytest.raises(Unreadable, match=r"a\.jpg"):
            open_image(tmp_path / "a.jpg")


def test_a_second_frame_of_another_size_never_reaches_the_decoder(tmp_path):
    content = PLAIN["colour"]
    start = content.index(b"\xff\xc0")
    frame = bytearray(content[start : start + 19])
    frame[5:9] = bytes((0, 1, 0, 1))  # 1x1
    for twice in (content[:start] + frame + content[start:], content[: start + 19] + frame + content[start + 19 :]):
        assert image_files._jpeg_frame(twice) is None
        (tmp_path / "a.jpg").write_bytes(twice)
        with pytest.raises(Unreadable):
            open_image(tmp_path / "a.jpg")


def assert_as_pillow_or_refused(content: bytes, folder):
    """Pillow's mode and pixels; where it has none, whatever it raises for damaged bytes, a refusal."""
    (folder / "a.jpg").write_bytes(content)
    try:
        expected = by_pillow(content)
    except Exception:
        with pytest.raises(Unreadable):
            open_image(folder / "a.jpg")
    else:
        image = open_image(folder / "a.jpg")
        assert image.mode == expected.mode and image.tobytes() == expected.tobytes()


def test_changed_heads_give_what_pillow_gives_or_are_refused(tmp_path):
    content, draw = PLAIN["colour"], numpy.random.default_rng(1)
    head = content.index(b"\xff\xda")
    frame = content.index(b"\xff\xc0")
    size = range(frame + 5, frame + 9)  # another height or width asks for other pixels than there are: seldom an image
    for place in draw.choice([place for place in range(head) if place not in size], 300, replace=False):
        changed = bytearray(content)
        changed[place] = draw.integers(256)
        assert_as_pillow_or_refused(bytes(changed), tmp_path)


@pytest.mark.parametrize("height", [1, 7, 8, 9, 40, 1000, 65535])
@pytest.mark.parametrize("width", [1, 8, 15, 16, 17, 900, 65535])
def test_a_changed_size_gives_what_pillow_gives_or_is_refused(height, width, tmp_path):
    changed = bytearray(PLAIN["colour"])
    frame = changed.index(b"\xff\xc0")
    changed[frame + 5 : frame + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    assert_as_pillow_or_refused(bytes(changed), tmp_path)


def test_a_damaged_segment_that_has_no_pixels_is_passed_over(tmp_path):
    content = PLAIN["colour"]
    segment = b"\xff\xee\x00\x07Adobe"  # APP14, too short: Pillow refuses it
    with pytest.raises(Exception):  # noqa: B017
        by_pillow(content[:2] + segment + content[2:])
    (tmp_path / "a.jpg").write_bytes(content[:2] + segment + content[2:])
    assert open_image(tmp_path / "a.jpg").tobytes() == by_pillow(content).tobytes()


def test_a_large_file_is_read_by_pillow_from_the_stream(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "AT_ONCE", 100)
    (tmp_path / "a.jpg").write_bytes(PLAIN["colour"])
    assert open_image(tmp_path / "a.jpg").tobytes() == by_pillow(PLAIN["colour"]).tobytes()


def test_an_empty_file_is_said_to_be_empty(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(Unreadable, match=r"a\.jpg is empty: replace or delete it"):
        open_image(tmp_path / "a.jpg")

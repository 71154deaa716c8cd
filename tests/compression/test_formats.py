"""The common formats: every image is in the sheet, and no format pays for an image's header."""

import gzip
import io

import numpy as np
import pytest
from PIL import Image

from lightning_gen.compression import format_sizes
from lightning_gen.compression import formats as formats_module
from lightning_gen.compression.formats import sheets


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_has_every_image_in_its_place(channels):
    images = np.random.default_rng(0).integers(256, size=(7, 2, 5, channels), dtype=np.uint8)
    (sheet,) = sheets(images)
    assert sheet.shape == (3 * 2, 3 * 5, channels)
    for i, image in enumerate(images):
        top, left = i // 3 * 2, i % 3 * 5
        assert (sheet[top : top + 2, left : left + 5] == image).all()


def test_no_sheet_is_larger_than_webp_takes(monkeypatch):
    monkeypatch.setattr(formats_module, "SIDE", 16)
    images = np.random.default_rng(0).integers(256, size=(41, 4, 4, 1), dtype=np.uint8)
    parts = sheets(images)
    assert [part.shape[:2] for part in parts] == [(16, 16), (16, 16), (12, 16)]
    assert sum(int(part.astype(int).sum()) for part in parts) == int(images.astype(int).sum())


@pytest.mark.parametrize(("channels", "levels"), [(1, 256), (3, 256), (1, 2)])
def test_noise_is_as_long_as_it_is_in_any_format(channels, levels):
    """No lossless format is below the entropy of noise, N D log2 K bits, nor far above."""
    x = np.random.default_rng(0).integers(levels, size=(100, 8, 8, channels), dtype=np.uint8) * (255 // (levels - 1))
    entropy = x.size * np.log2(levels) / 8
    for name, size in format_sizes(x, levels).items():
        assert 0.999 * entropy <= size <= 1.35 * entropy + 400, name


def test_sizes_are_those_of_the_formats():
    images = np.repeat(np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1), 4, 0)
    sizes, sheet = format_sizes(images, 256), np.tile(images[0, ..., 0], (2, 2))
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", optimize=True)
    assert sizes["PNG"] == len(buffer.getvalue())
    assert sizes["gzip -9"] == len(gzip.compress(images.tobytes(), 9, mtime=0))

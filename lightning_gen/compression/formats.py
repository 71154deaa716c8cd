"""General lossless formats, beside which a model's code stands: gzip, PNG and WebP."""

import gzip
import io

import numpy as np

SIDE = 16_383  # pixels, the most that WebP takes


def format_sizes(images: np.ndarray, levels: int) -> dict[str, int]:
    """Bytes of uint8 images (N, H, W, C), C 1 or 3, by each format; 2 levels are packed to bits where a format can.

    gzip has all values in one stream; PNG and WebP have one sheet of all images, so that no image pays for a header.
    """
    from PIL import Image

    binary = levels == 2
    flat = np.packbits(images.ravel() > 0) if binary else images
    sizes = {"gzip -9": len(gzip.compress(np.ascontiguousarray(flat).tobytes(), 9, mtime=0)), "PNG": 0, "WebP": 0}
    for pixels in sheets(images):
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        packed = picture.convert("1", dither=Image.Dither.NONE) if binary else picture
        sizes["PNG"] += encoded(packed, "PNG", optimize=True)
        sizes["WebP"] += encoded(picture.convert("RGB"), "WEBP", lossless=True, quality=100, method=6)
    return sizes


def encoded(picture: object, name: str, **options: object) -> int:
    """Bytes of a picture in a format of Pillow."""
    buffer = io.BytesIO()
    picture.save(buffer, name, **options)
    return len(buffer.getvalue())


def sheets(images: np.ndarray) -> list[np.ndarray]:
    """Images (N, H, W, C) side by side without gaps, nearly square, each sheet of at most 16,383 pixels a side."""
    n, height, width, channels = images.shape
    across = max(1, min(int(np.ceil(np.sqrt(n))), SIDE // max(height, width)))
    parts = []
    for start in range(0, n, across * across):
        part = images[start : start + across * across]
        rows = -(-len(part) // across)
        blank = np.zeros((rows * across - len(part), height, width, channels), np.uint8)
        tiles = np.concatenate([part, blank]).reshape(rows, across, height, width, channels)
        parts.append(tiles.swapaxes(1, 2).reshape(rows * height, across * width, channels))
    return parts

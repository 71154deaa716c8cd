"""Lossless compression: a range coder driven by exact probabilities, its files, and the common formats."""

from lightning_gen.compression.code import Code, DequantisedBound, RangeCoder, integer_counts
from lightning_gen.compression.file import Header, arithmetic, image_digest, model_digest, read_code, unlike, write_code
from lightning_gen.compression.formats import format_sizes

__all__ = [
    "Code",
    "DequantisedBound",
    "Header",
    "RangeCoder",
    "arithmetic",
    "format_sizes",
    "image_digest",
    "integer_counts",
    "model_digest",
    "read_code",
    "unlike",
    "write_code",
]

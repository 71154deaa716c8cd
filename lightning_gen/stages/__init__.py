"""The stages of a run (fit, evaluate, sample, export, compress, decompress, compare), and the command for them."""

from lightning_gen.stages.command import main
from lightning_gen.stages.session import Session

__all__ = ["Session", "main"]

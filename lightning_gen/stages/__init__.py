"""The stages of a run, fit, evaluate, sample, export and compare, and the command that starts them."""

from lightning_gen.stages.command import main
from lightning_gen.stages.session import Session

__all__ = ["Session", "main"]

"""Weights that other code trained, from local files of plain tensors: no address is opened, no pickled code run.

python -m lightning_gen.convert SOURCE TARGET writes a folder that lightning_gen.load(TARGET) reads.
"""

from lightning_gen.convert.diffusers import read_diffusers
from lightning_gen.convert.export import Imported, write
from lightning_gen.convert.score_sde import read_score_sde

__all__ = ["Imported", "read_diffusers", "read_score_sde", "write"]

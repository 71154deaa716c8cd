"""Weights that other code trained, from local files of plain tensors: no address is opened, no pickled code run.

python -m lightning_gen.convert SOURCE TARGET writes a folder that lightning_gen.load(TARGET) reads.
"""

from pathlib import Path

from lightning_gen.convert.diffusers import read_diffusers
from lightning_gen.convert.edm import is_edm, read_edm
from lightning_gen.convert.export import Imported, write
from lightning_gen.convert.files import read_tensors
from lightning_gen.convert.pytorch_ddpm import read_pytorch_ddpm
from lightning_gen.convert.score_sde import read_score_sde


def read_checkpoint(file: Path, sde: str | None = None, weights: str = "ema", size: int = 32) -> Imported:
    """The network of a file of EDM, pytorch-ddpm or score_sde_pytorch, told apart by names; arguments as theirs."""
    content = read_tensors(file)
    if "net_model" in content:
        return read_pytorch_ddpm(file, weights, size)
    return read_edm(file, sde) if is_edm(content) else read_score_sde(file, sde, weights, size)


__all__ = ["Imported", "read_checkpoint", "read_diffusers", "read_edm", "read_pytorch_ddpm", "read_score_sde", "write"]

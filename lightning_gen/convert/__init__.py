"""Weights that other code trained, from local files of plain tensors: no address is opened, no pickled code run.

python -m lightning_gen.convert SOURCE TARGET writes a folder that lightning_gen.load(TARGET) reads.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_gen.convert.diffusers import read_diffusers
from lightning_gen.convert.edm import is_edm, read_edm
from lightning_gen.convert.export import Imported, write
from lightning_gen.convert.files import read_tensors
from lightning_gen.convert.pytorch_ddpm import read_pytorch_ddpm
from lightning_gen.convert.score_sde import is_score_sde, read_score_sde


def read_checkpoint(file: Path, **options: Any) -> Imported:
    """The network of a file of EDM, pytorch-ddpm or score_sde_pytorch, told apart by names; ValueError for others.

    Args:
        file: the checkpoint.
        options: sde, weights, size, as the readers take them; ValueError for one that this file's reader does not take.
    """
    content = read_tensors(file)
    read: Callable[..., Imported]
    if "net_model" in content:
        code, read, known = "pytorch-ddpm", read_pytorch_ddpm, {"weights", "size"}
    elif is_edm(content):
        code, read, known = "EDM", read_edm, {"sde"}
    elif is_score_sde(content):
        code, read, known = "score_sde", read_score_sde, {"sde", "weights", "size"}
    else:
        raise ValueError(
            f"{file} has neither the names of EDM (map_layer0), nor those of pytorch-ddpm (net_model) or score_sde "
            "(all_modules): such a network is not built here"
        )
    if strange := sorted({*options} - known):
        raise ValueError(f"--{strange[0]} is given, and {file} is of {code}, which does not take it: leave it out")
    return read(file, content=content, **options)


__all__ = ["Imported", "read_checkpoint", "read_diffusers", "read_edm", "read_pytorch_ddpm", "read_score_sde", "write"]

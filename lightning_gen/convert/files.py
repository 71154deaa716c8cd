"""Local files of plain tensors: safetensors, and torch.load with weights_only=True and NumPy's float64 scalars."""

import json
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from safetensors.torch import load_file

from lightning_gen.errors import first_line

_SCALAR = np._core.multiarray.scalar
# A learning rate by NumPy, as in the optimizers' states of score_sde_pytorch; NumPy 1 had another name for it.
NUMPY = (_SCALAR, (_SCALAR, "numpy.core.multiarray.scalar"), np.dtype, np.dtypes.Float64DType)

EDM = b"torch_utils.persistence"  # what reads the classes that EDM's pickles bring with them, as code
TAKE_OUT = (
    "import pickle, torch; net = pickle.load(open('{}', 'rb'))['ema']; "
    "torch.save({{'ema': net.state_dict(), 'precond': type(net).__name__}}, 'edm.pt')"
)


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a .json file; ValueError for other content."""
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): take the file as it was published") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a {type(content).__name__}, expected settings by name: take the file as it was published"
        )
    return content


def read_tensors(path: Path) -> dict[str, Any]:
    """The mapping of plain values in a .safetensors, .bin or .pth file, on the CPU; ValueError for other content."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a local file: download it first, and name it by its path")
    check_pickle(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([*NUMPY]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or foreign file gives
        reason = f"{type(error).__name__}: {first_line(error)[:100]}"
        raise ValueError(
            f"{path} cannot be read as plain tensors ({reason}): take a whole file of weights alone"
        ) from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected names with tensors: take the state dict")
    return content


def check_pickle(path: Path) -> None:
    """ValueError for a pickle of EDM's, with the lines that take the tensors out of it."""
    with path.open("rb") as stream:
        if EDM not in stream.read(1 << 16):
            return
    told = f"{path} is a pickle of EDM's, which runs code when it is read"
    if is_zipfile(path):  # by torch.save: a state of the training, without the averaged weights
        raise ValueError(f"{told}: take the network-snapshot-*.pkl that was written with it")
    raise ValueError(
        f"{told}: where you trust it, run in a checkout of NVlabs/edm: "
        f'python -c "{TAKE_OUT.format(path)}", and import edm.pt'
    )

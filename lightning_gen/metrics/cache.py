"""In the user's cache folder: tensors made once, written atomically, found again by what they were made from."""

import hashlib
import os
import pickle
import secrets
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256, in hex, of names, types, shapes and values."""
    sha = hashlib.sha256()
    for name, x in sorted(tensors.items()):
        x = x.detach().cpu().contiguous()
        sha.update(f"{name} {x.dtype} {tuple(x.shape)};".encode())
        sha.update(x.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256, in hex, of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def store(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values so that a reader sees all of them or no file, whoever else writes the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile's, which nobody else may read.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        with open(partial, "xb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any] | None:
    """What `store` wrote, or None where there is nothing."""
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"the cache file {path} is damaged: delete it, it will be made again") from error

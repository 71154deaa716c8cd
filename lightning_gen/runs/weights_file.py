"""Weights of an export as safetensors, with the SHA-256 of the file in its metadata."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gen.config.source import signature
from lightning_gen.errors import NonFinite
from lightning_gen.runs.atomic import replacing
from lightning_gen.runs.checkpoint_file import Damaged

if TYPE_CHECKING:
    from torch import Tensor

ENTRY = b'"sha256":"%b"'
ZEROS = b"0" * 64  # in the place of the digest, while it is computed


def write(weights: "dict[str, Tensor]", path: Path, **metadata: str) -> None:
    """Replace `path` by the weights and metadata of theirs, as step="2000"."""
    from safetensors.torch import save

    data = save(weights, {**metadata, "sha256": ZEROS.decode()})
    digest = hashlib.sha256(data).hexdigest().encode()
    with replacing(path) as partial:
        partial.write_bytes(data.replace(ENTRY % ZEROS, ENTRY % digest, 1))


def keeps_average(module: Mapping[str, Any]) -> bool:
    """Whether the family of a config's node keeps averaged weights, by the node or by its constructor's default."""
    if "ema_decay" in module:
        return module["ema_decay"] is not None
    defaults = {parameter.name: parameter.default for parameter in signature(module["_target_"]) or ()}
    return defaults.get("ema_decay", "None") != "None"


def averaged(weights: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """The averaged model's weights of a module's state dict, as `model.*`; the raw ones where no average is kept."""
    ema = {f"model.{key.removeprefix('ema.')}": value for key, value in weights.items() if key.startswith("ema.")}
    return ema or {key: value for key, value in weights.items() if key.startswith("model.")}


def shared(state: "dict[str, Tensor]", of: str) -> "dict[str, Tensor]":
    """What of a module's state dict is for others: the averaged model, and an autoencoder; NonFinite, with the words
    `of`, if one of them is not finite."""
    coder = {key: value for key, value in state.items() if key.startswith("autoencoder.")}
    weights = {key: value.contiguous() for key, value in {**averaged(state), **coder}.items()}
    for key, value in weights.items():
        if not value.isfinite().all():
            raise NonFinite(f"{key} {of} is not finite: nothing was exported")
    return weights


def read(path: Path) -> "dict[str, Tensor]":
    """The weights, on the CPU; Damaged where the file is not what was written. Older files have no digest."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load

    try:
        with safe_open(path, "pt") as file:
            known = file.metadata() or {}
        digest = known.get("sha256")
        if digest is None and len(known) > 1:  # older files have one entry
            raise Damaged(
                f"{path} is damaged (its metadata have {', '.join(known)}, expected sha256): export the run again"
            )
        data = path.read_bytes()
        if digest is not None:
            zeroed = data.replace(ENTRY % digest.encode(), ENTRY % ZEROS, 1)
            if hashlib.sha256(zeroed).hexdigest() != digest:
                raise Damaged(f"{path} is damaged (its SHA-256 differs): export the run again")
        return load(data)
    except SafetensorError as error:
        raise Damaged(f"{path} is damaged ({error}): export the run again") from error

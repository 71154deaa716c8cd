"""The file of a range coder's bits: its header says what they were computed by, and is checked when they are read."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_gen.errors import Unreadable
from lightning_gen.metrics.cache import digest
from lightning_gen.models import Model
from lightning_gen.runs.atomic import replacing

MAGIC = b"lightning-gen images 1 "
MOST = 10_000_000  # images of a file, and of those that are computed side by side
REMEDIES = {
    "model": "name the run by run=RUN whose weights wrote it",
    "threads": "set OMP_NUM_THREADS={0} in the environment",
    "dtype": "write trainer.precision for {0}",
    "processor": "read it on a processor with {0}",
    "torch": "install torch {0}",
    "constriction": "install constriction {0}",
}


@dataclass(frozen=True)
class Header:
    """What a decoder has to know, and what has to be the same for both sides to compute the same bits.

    Args:
        model: digest of network and weights.
        n: number of images.
        batch: images that are computed side by side.
        threads: of torch.
        dtype: of the weights.
        processor: the instructions that torch uses.
        torch, constriction: versions.
        images: digest of the images, by which a decoder knows that they are the same.
    """

    model: str
    n: int
    batch: int
    threads: int
    dtype: str
    processor: str
    torch: str
    constriction: str
    images: str


def short_digest(data: bytes) -> str:
    """The first 16 hex characters of the SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def image_digest(images: np.ndarray) -> str:
    """Of uint8 images (N, H, W, C), their shape included."""
    return short_digest(f"{images.shape};".encode() + np.ascontiguousarray(images).tobytes())


def model_digest(model: Model, net: Any) -> str:
    """Of the weights, and of the network's config `net`."""
    return short_digest((json.dumps(net, sort_keys=True) + digest(model.state_dict())).encode())


def arithmetic(model: Model) -> dict[str, Any]:
    """What sums depend on, as the fields of Header."""
    return {
        "threads": torch.get_num_threads(),
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "torch": str(torch.__version__),
        "constriction": version("constriction"),
    }


def write_code(path: Path, header: Header, code: bytes) -> Path:
    """Write a file: a line with the digest of all that follows, a line of JSON, and the bits."""
    content = json.dumps(asdict(header), separators=(",", ":")).encode() + b"\n" + code
    with replacing(path) as partial:
        partial.write_bytes(MAGIC + short_digest(content).encode() + b"\n" + content)
    return path


def read_code(path: Path) -> tuple[Header, bytes]:
    """Header and bits; ValueError for another file, Unreadable for one that cannot be read or is damaged."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        why = (error.strerror or "").lower()
        raise Unreadable(f"file={path} cannot be read ({why}): name a file of stage=compress") from error
    if not data.startswith(MAGIC):
        found = f"begins with {data[:16]!r}" if data else "is empty"
        raise ValueError(f"file={path} {found}, expected {MAGIC!r}: name a file of stage=compress")
    seal, _, content = data.removeprefix(MAGIC).partition(b"\n")
    if seal.decode("ascii", "replace") != short_digest(content):
        said = seal[:16].decode("ascii", "replace")
        told = f"file={path} is damaged: its content has the digest {short_digest(content)}, expected {said}"
        raise Unreadable(f"{told}: copy it again, or compress the images again")
    line, _, code = content.partition(b"\n")
    try:
        known = json.loads(line)
    except ValueError:
        known = None
    if not isinstance(known, dict) or {*known} != {field.name for field in fields(Header)}:
        raise ValueError(f"file={path} has the header {line[:200]!r}, of another version: read it by that version")
    for key in ("n", "batch"):
        if type(known[key]) is not int or not 0 < known[key] <= MOST:
            raise ValueError(f"file={path} has {key} {known[key]!r}, expected 1 to {MOST:,}: compress again")
    if len(code) % 4:
        raise ValueError(f"file={path} has {len(code)} bytes of code, expected a multiple of 4: compress again")
    return Header(**known), code


def unlike(header: Header, path: Path, model: str, own: dict[str, Any]) -> list[str]:
    """A fault for each thing that is not here as it was where the file was written."""
    written = asdict(header)
    return [
        f"file={path} was written with {key} {written[key]}, expected {here}: {REMEDIES[key].format(written[key])}"
        for key, here in {"model": model, **own}.items()
        if written[key] != here
    ]

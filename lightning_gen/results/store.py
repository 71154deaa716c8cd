"""The files of a run that hold its numbers: record.jsonl and metrics.json, read and written."""

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_gen.runs.atomic import replacing

RECORD = "record.jsonl"
METRICS = "metrics.json"


def read_record(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a record.jsonl that count, in order of step: newest of each (name, step), no abandoned future."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; a run folder that has trained holds a {RECORD}")
    newest: dict[tuple[str, int], dict[str, Any]] = {}
    rows = path.read_bytes().split(b"\n")
    for number, row in enumerate(rows, 1):
        if not row:
            continue
        try:
            line = json.loads(row)
        except ValueError as error:
            if number == len(rows) or not row.endswith(b"}"):
                continue  # torn by a kill; no proper prefix of a line is valid JSON, so nothing false is read
            raise ValueError(f"{path}:{number} is not a line of a record; delete that line") from error
        if "resume" in line:
            newest = {key: value for key, value in newest.items() if key[1] <= line["resume"]}
        else:
            newest[line["name"], line["step"]] = line | {"value": float(line["value"])}
    return sorted(newest.values(), key=lambda line: line["step"])


def write_atomically(path: Path, data: bytes) -> Path:
    """Replace a file as a whole: a reader, or a kill, finds the old one or the new one."""
    with replacing(path) as partial:
        partial.write_bytes(data)
    return path


def torn(path: Path) -> bool:
    """Whether the file ends in the middle of a line."""
    if not path.exists() or not path.stat().st_size:
        return False
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def plain(value: Any) -> Any:
    """Containers and numbers that JSON can hold; NaN and infinities as strings, since JSON has none."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, torch.Tensor | np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def newest_picture(folder: Path, kind: str, ending: str = "png") -> Path | None:
    """The file samples/<kind>-<step> of the most steps; where none is named by its step, the one written last."""
    files = list((folder / "samples").glob(f"{kind}-*.{ending}"))
    numbered = [path for path in files if re.fullmatch(rf"{kind}-\d+", path.stem)]
    return max(numbered, default=None) or max(files, key=lambda path: path.stat().st_mtime, default=None)

"""The run's own record: record.jsonl and metrics.json, and the one way in which callbacks publish.

W&B and TensorBoard are mirrors; these files are the truth, and need no account. A step is always the number of
optimizer steps done, so that losses, metrics and pictures of one moment stand at one place.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from lightning_gen.data.image_files import FORMATS
from lightning_gen.result import Result
from lightning_gen.run_folder import read_metrics as read_metrics

if TYPE_CHECKING:
    from PIL.Image import Image

RECORD = "record.jsonl"
METRICS = "metrics.json"


class RecordLogger(Logger):
    """Appends every logged value to <folder>/record.jsonl as {"name", "value", "step", "epoch", "time"}, one a line.

    One unbuffered write per call: what was logged outlives kill -9. The file is only ever appended to; where a run
    resumes, a line {"resume": step} says that later steps written before it belong to an abandoned future.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        self._file: Any = None
        self._epoch = 0

    @property
    def name(self) -> str:
        """Lightning's name of the logger."""
        return "record"

    @property
    def version(self) -> str:
        """One record per run folder: no versions."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Append one line per value; `epoch` among the metrics dates the others."""
        self._epoch = int(metrics.get("epoch", self._epoch))
        shared = {"step": int(step or 0), "epoch": self._epoch, "time": round(time.time(), 3)}
        self._append(
            [{"name": name, "value": _plain(value)} | shared for name, value in metrics.items() if name != "epoch"]
        )

    @rank_zero_only
    def resume(self, step: int) -> None:
        """Training goes on from `step`: values of later steps written so far are no longer part of the run."""
        path = self.folder / RECORD
        if path.exists() and path.stat().st_size:
            self._append([{"resume": int(step)}])

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file; the next value opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, lines: list[dict[str, Any]]) -> None:
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            torn = _torn(self.folder / RECORD)
            self._file = open(self.folder / RECORD, "ab", buffering=0)  # noqa: SIM115  # kept open: a step costs one write
            if torn:
                self._file.write(b"\n")
        if lines:
            self._file.write("".join(json.dumps(line) + "\n" for line in lines).encode())

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}


class Resume(Callback):
    """Tells the RecordLogger at which step training starts; stands wherever a RecordLogger does."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write {"resume": global_step} unless the record is empty."""
        for logger in trainer.loggers:
            if isinstance(logger, RecordLogger):
                logger.resume(trainer.global_step)


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
            newest = {key: kept for key, kept in newest.items() if key[1] <= line["resume"]}
        else:
            newest[line["name"], line["step"]] = line | {"value": float(line["value"])}
    return sorted(newest.values(), key=lambda line: line["step"])


def step_of(trainer: Trainer) -> int:
    """Optimizer steps behind the weights: the trainer's, or, when it only evaluates, the module's `trained_steps`."""
    return int(trainer.global_step or getattr(trainer.lightning_module, "trained_steps", 0))


def publish(trainer: Trainer, results: Mapping[str, Result], final: bool) -> None:
    """Log each value, and its error as <name>/error, to loggers and callback_metrics; when final, to metrics.json."""
    step = step_of(trainer)
    values = {name: float(result.value) for name, result in results.items()}
    errors = {f"{name}/error": float(r.error) for name, r in results.items() if r.error is not None}
    for name, value in values.items():
        trainer.callback_metrics[name] = torch.tensor(value)
    for logger in trainer.loggers:
        logger.log_metrics({"epoch": trainer.current_epoch, **values, **errors}, step)
    if final and trainer.is_global_zero:
        path = Path(trainer.default_root_dir) / METRICS
        known = read_metrics(path) if path.exists() else {}
        fresh = {name: result.as_dict() | {"step": step} for name, result in results.items()}
        write_atomically(path, (json.dumps(_plain(known | fresh), indent=2, allow_nan=False) + "\n").encode())


def log_image(trainer: Trainer, name: str, picture: str | Path | np.ndarray) -> None:
    """Send a picture, a file or uint8 (H, W, C), to every logger that takes pictures, at the step of the weights."""
    if isinstance(picture, np.ndarray) and (picture.dtype != np.uint8 or picture.ndim != 3):
        # W&B casts floats to uint8 without scaling: the picture would be black
        raise TypeError(
            f"log_image takes a file or uint8 (H, W, C), got {picture.dtype} {picture.shape}; scale to 0..255 and round"
        )
    if not trainer.is_global_zero:
        return
    takers = [x for x in trainer.loggers if hasattr(x, "log_image") or isinstance(x, TensorBoardLogger)]
    if not takers:
        return
    from PIL import Image

    image = Image.open(picture, formats=FORMATS) if isinstance(picture, str | Path) else to_pil(picture)
    for logger in takers:
        if isinstance(logger, TensorBoardLogger):
            pixels = np.asarray(image.convert("RGB"))
            logger.experiment.add_image(name, pixels, step_of(trainer), dataformats="HWC")
        else:
            logger.log_image(name, [image], step=step_of(trainer))


def to_pil(picture: np.ndarray) -> "Image":
    """uint8 (H, W, C), C 1 or 3, as a PIL image."""
    from PIL import Image

    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)


def write_atomically(path: Path, data: bytes) -> Path:
    """Replace a file as a whole: a reader, or a kill, finds the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    with open(staged, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(staged, path)
    return path


def _torn(path: Path) -> bool:
    """Whether the file ends in the middle of a line."""
    if not path.exists() or not path.stat().st_size:
        return False
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _plain(value: Any) -> Any:
    """Containers and numbers that JSON can hold; NaN and infinities as strings, since JSON has none."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, torch.Tensor | np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value

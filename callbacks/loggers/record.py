"""The run's own record, record.jsonl.

W&B and TensorBoard are mirrors; this file is the truth, and needs no account. A step is always the number of
optimizer steps done, so that losses, metrics and pictures of one moment stand at one place.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from lightning_gen.errors import RunDeleted
from lightning_gen.results.store import RECORD, plain, torn


class RecordLogger(Logger):
    """Appends every logged value to <folder>/record.jsonl as {"name", "value", "step", "epoch", "time"}, one a line.

    One unbuffered write per call: what was logged outlives kill -9. The file is only ever appended to; where a run
    resumes, a line {"resume": step} says that later steps written before it belong to an abandoned future. RunDeleted
    where the file, once written, is gone.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        self._file: Any = None
        self._identity: tuple[int, int] | None = None
        self._size = 0
        self._epoch = 0

    @property
    def name(self) -> str:
        return "record"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
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
            [{"name": name, "value": plain(value)} | shared for name, value in metrics.items() if name != "epoch"]
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
        self._check()
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            broken = torn(self.folder / RECORD)
            self._file = open(self.folder / RECORD, "ab", buffering=0)  # noqa: SIM115  # kept open: a step costs one write
            self._identity = identity(os.fstat(self._file.fileno()))
            if broken:
                self._file.write(b"\n")
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        while data:  # where the disk is full a part is written, and the next call says so
            data = data[self._file.write(data) :]
        self._size = self._file.tell()

    def _check(self) -> None:
        path = self.folder / RECORD
        if self._identity is None:
            return
        try:
            about = path.stat()
            same = identity(about) == self._identity and about.st_size >= self._size
        except FileNotFoundError:
            same = False
        if not same:
            what = path if self.folder.is_dir() else self.folder
            raise RunDeleted(
                f"{what} was deleted or replaced while the run was at work in it, which ends here without a save: put "
                "it back, or start anew"
            )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_identity": None}


def identity(about: os.stat_result) -> tuple[int, int]:
    """Which file it is, whatever its name."""
    return about.st_dev, about.st_ino


class Resume(Callback):
    """Tells the RecordLogger at which step training starts, and the person where it has other ranks than before."""

    ranks: int | None = None  # at the last save, where it is known

    def state_dict(self) -> dict[str, Any]:
        """On how many ranks the run is."""
        return {"ranks": self.ranks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """On how many ranks it was."""
        self.ranks = state_dict["ranks"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write {"resume": global_step} unless the record is empty."""
        before, self.ranks = self.ranks, trainer.world_size
        if before not in (None, self.ranks) and trainer.is_global_zero:
            print(
                f"resumed on {self.ranks} ranks, before on {before}: the batches stay the same, but each rank draws "
                f"its own noise, so that the numbers are no longer bit for bit those of a run on {before}"
            )
        for logger in trainer.loggers:
            if isinstance(logger, RecordLogger):
                logger.resume(trainer.global_step)

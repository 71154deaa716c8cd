"""The run's own record: record.jsonl and metrics.json, and the one way in which callbacks publish.

W&B and TensorBoard are mirrors; these files are the truth, and need no account. A step is always the number of
optimizer steps done, so that losses, metrics and pictures of one moment stand at one place.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from lightning_gen.results.store import RECORD, plain, torn

if TYPE_CHECKING:
    pass


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
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            broken = torn(self.folder / RECORD)
            self._file = open(self.folder / RECORD, "ab", buffering=0)  # noqa: SIM115  # kept open: a step costs one write
            if broken:
                self._file.write(b"\n")
        if lines:
            self._file.write("".join(json.dumps(line) + "\n" for line in lines).encode())

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}


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

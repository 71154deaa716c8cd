"""An evaluation as a whole: its numbers are written together at its end, and what was drawn outlives a stop."""

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_gen import __version__
from lightning_gen.metrics.cache import digest, load, store
from lightning_gen.results.result import name_of
from lightning_gen.results.store import METRICS, plain, write_atomically
from lightning_gen.runs.folder import PIECES

BEFORE = "metrics-before.json"
COLUMNS = ("name", "value", "error", "kind", "unit", "better", "protocol_hash", "flags", "step")


class Pieces(NamedTuple):
    """What one callback has drawn or computed so far, a file a block.

    Args:
        folder: of the evaluation: a name for all that its numbers depend on.
        owner: the callback's name.
    """

    folder: Path
    owner: str

    def path(self, block: int) -> Path:
        """The file of a block."""
        return self.folder / f"{self.owner}-{block:08d}.pt"

    def load(self, block: int, device: torch.device) -> dict[str, Any] | None:
        """A block's values and tensors; None where there are none, or a damaged file."""
        try:
            piece = load(self.path(block))
        except ValueError:
            return None
        if piece is None:
            return None
        return {key: x.to(device) if isinstance(x, torch.Tensor) else x for key, x in piece.items()}

    def store(self, block: int, piece: Mapping[str, Any]) -> None:
        """Keep a block, where there is room for it."""
        content = {key: x.detach().cpu() if isinstance(x, torch.Tensor) else x for key, x in piece.items()}
        try:
            store(self.path(block), content)
        except OSError:  # a full disk costs the way back, not the evaluation
            self.path(block).unlink(missing_ok=True)


class Evaluation(Callback):
    """Collects the numbers of a test, and writes them to metrics.json when all are there; the old ones go aside.

    Until `RunFolder.forget_pieces`, blocks that callbacks draw are kept in <run>/.evaluation, under a hash of config,
    weights, device and versions: an evaluation that was stopped goes on where it stood, to the same numbers. At the end
    rank 0 says where its time went: sampling, features, and what else each callback takes.

    Args:
        config: what the numbers depend on but for the weights; None keeps no blocks.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self.config = config
        self.numbers: dict[str, Any] | None = None
        self.folder: Path | None = None
        self.spent: dict[str, float] = {}  # seconds by activity

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin without numbers, and with the blocks of the same evaluation alone."""
        self.numbers, self.folder = {}, None
        self.spent, self.begun = {}, time.perf_counter()
        if self.config is None or trainer.fast_dev_run:
            return
        self.folder = Path(trainer.default_root_dir) / PIECES / self.identity(trainer, pl_module)
        if trainer.is_global_zero and self.folder.parent.is_dir():
            for other in self.folder.parent.iterdir():
                if other != self.folder:
                    shutil.rmtree(other, ignore_errors=True)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the numbers in one step."""
        numbers, self.numbers = self.numbers, None
        if trainer.fast_dev_run and trainer.is_global_zero:
            print("training, validation and test run; a fast_dev_run keeps neither weights nor numbers")
        if not numbers or not trainer.is_global_zero or trainer.fast_dev_run:
            return
        print(shares(self.spent, time.perf_counter() - self.begun))
        path = Path(trainer.default_root_dir) / METRICS
        if path.is_file():
            write_atomically(path.with_name(BEFORE), path.read_bytes())
        write_metrics(path, numbers)
        for logger in trainer.loggers:
            if hasattr(logger, "log_table"):
                logger.log_table("metrics", list(COLUMNS), table(numbers))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Forget half of the numbers."""
        self.numbers = None

    def identity(self, trainer: Trainer, module: LightningModule) -> str:
        """A hash of all that a block depends on, but for its number."""
        about = {
            "config": self.config,
            "weights": digest(module.state_dict()),
            "precision": str(trainer.precision),
            "device": module.device.type,
            "threads": torch.get_num_threads(),
            "versions": [str(torch.__version__), __version__],
        }
        return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:32]


def evaluation_of(trainer: Trainer) -> Evaluation | None:
    """The evaluation in progress, None where there is none."""
    # Whoever measures without Lightning's trainer has no callbacks.
    mine = (callback for callback in getattr(trainer, "callbacks", ()) if isinstance(callback, Evaluation))
    return next((callback for callback in mine if callback.numbers is not None), None)


def spend(trainer: Trainer, activity: str, seconds: float) -> None:
    """Add to the time of an activity of the evaluation in progress, where there is one."""
    if (evaluation := evaluation_of(trainer)) is not None:
        evaluation.spent[activity] = evaluation.spent.get(activity, 0.0) + seconds


def drawing_time(trainer: Trainer) -> float:
    """Seconds of the evaluation in progress in sampling and features, of whichever callback."""
    evaluation = evaluation_of(trainer)
    return 0.0 if evaluation is None else sum(evaluation.spent.get(name, 0.0) for name in ("sampling", "features"))


def shares(spent: Mapping[str, float], whole: float) -> str:
    """The activities by their share of the evaluation's seconds, the largest first, from 1 % on."""
    rest = {"the rest": max(whole - sum(spent.values()), 0.0)}
    rows = sorted((spent | rest).items(), key=lambda row: -row[1])
    said = ", ".join(f"{name} {part / whole:.0%}" for name, part in rows if part >= whole / 100)
    return f"evaluation in {whole:,.1f} s: {said}"


def pieces_of(trainer: Trainer, callback: Callback, *what: Any) -> Pieces | None:
    """Where the blocks of one of the trainer's callbacks are kept, of each `what` apart; None where they are not."""
    evaluation = evaluation_of(trainer)
    if evaluation is None or evaluation.folder is None:
        return None
    number = next((i for i, other in enumerate(trainer.callbacks) if other is callback), None)
    if number is None:  # a copy, as SamplerTable makes of Quality
        return None
    kind = hashlib.sha256(json.dumps(what, default=str).encode()).hexdigest()[:8]
    return Pieces(evaluation.folder, f"{type(callback).__name__}-{number}-{kind}")


def table(numbers: Mapping[str, Any]) -> list[list[Any]]:
    """The entries of a metrics.json as rows of COLUMNS."""
    rows = []
    for text, entry in numbers.items():
        own = {"name": text, "better": name_of(text, entry).about.better}
        own["flags"] = ", ".join(entry["protocol"].get("flags", ()))
        rows.append(plain([(entry | own).get(column) for column in COLUMNS]))
    return rows


def write_metrics(path: Path, numbers: Mapping[str, Any]) -> None:
    """Replace a metrics.json."""
    write_atomically(path, (json.dumps(plain(numbers), indent=2, allow_nan=False) + "\n").encode())

"""Checkpoints that a kill cannot destroy: `last` by the clock of steps, `best` by a metric, and a stop by signal."""

import math
import os
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric.plugins import CheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from lightning_gen.callbacks.measuring import measured_weights
from lightning_gen.options import Checked, Count, Natural, choose
from lightning_gen.results.result import Name
from lightning_gen.runs import signals


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the old file, syncs, renames, syncs the folder: a kill leaves the old file or the new one.

    Loads with weights_only=True from a local path, nothing else.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Replace `path` by the checkpoint in one step."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".part")
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The checkpoint's plain containers and tensors, on the CPU unless told."""
        return torch.load(Path(path), map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete the file."""
        Path(path).unlink(missing_ok=True)


class Checkpoints(Checked, Checkpoint):
    """checkpoints/last.ckpt every `every_n_steps` optimizer steps and at the end, whatever a metric does;
    best.ckpt when `monitor` improves; step-*.ckpt every `keep_every_n_steps` (0 = none).

    monitor: the name of a number that a callback publishes during training, as fid/digits/ema with
    quality.every_n_epochs, or val/loss/ema. mode: null is min or max by what the number is.

    While it trains a signal is noted only, and read after each optimizer step on all ranks: then `last` is written and
    Stopped is raised.
    """

    def __init__(
        self,
        every_n_steps: Count = 1000,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        keep_every_n_steps: Natural = 0,
    ) -> None:
        if mode is None and monitor is not None:
            mode = {"lower": "min", "higher": "max"}.get(Name.parse(monitor).about.better)
        self.every_n_steps, self.monitor, self.mode = every_n_steps, monitor, mode
        self.keep_every_n_steps = keep_every_n_steps
        self.best: float | None = None
        self.sure = False
        self.saved = self.step = -1

    def folder(self, trainer: Trainer) -> Path:
        """Where the files stand."""
        return Path(trainer.default_root_dir) / "checkpoints"

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best value so far."""
        self.best = state_dict["best"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A signal waits for the end of the step: a save in its middle would see half an optimizer."""
        self.saved = self.step = trainer.global_step
        signals.hold()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save what is due."""
        step = trainer.global_step
        if step == self.step:  # within an accumulation window, whose gradients no checkpoint holds
            return
        self.step = step
        stop = trainer.strategy.reduce_boolean_decision(signals.received() is not None, all=False)
        if step != self.saved and (stop or step % self.every_n_steps == 0):
            self.save(trainer, "last.ckpt")
        if self.keep_every_n_steps and step % self.keep_every_n_steps == 0:
            trainer.save_checkpoint(self.folder(trainer) / f"step-{step:08d}.ckpt", weights_only=False)
        if stop:
            raise signals.stopped(f" at step {step}, saved")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a number that the run will never have, before any work."""
        if self.monitor is None:
            return
        known = published(trainer, pl_module)
        every = known.get(self.monitor)
        # Somebody else's callback may publish what it likes: then only the run itself can tell.
        self.sure = every is not None or None not in known.values()
        if every is None and self.sure:
            raise ValueError(
                f"{self.said()}, but the run measures {listed(known)}: {choose(self.monitor, list(known))}"
            )
        if self.mode is None:
            raise ValueError(f"{self.said()}, better low or high? write callbacks.checkpoints.mode=min or max")
        if every == 0:
            raise ValueError(f"{self.said()}, which is measured only when the run ends: set its every_n_epochs")
        last, checked = epochs(trainer), trainer.check_val_every_n_epoch
        if every and last is not None and checked and trainer.val_check_interval == 1.0:
            first = math.lcm(every, checked)
            if first > last:
                raise ValueError(
                    f"{self.said()}, which comes after epoch {first} (every {every}, where a validation is, every "
                    f"{checked}), and the run has {last} whole epochs: set its every_n_epochs, or "
                    "trainer.check_val_every_n_epoch, lower"
                )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the best by the monitored value; a value that never comes is an error, not a silence."""
        if self.monitor is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if self.monitor not in trainer.callback_metrics:
            rhythm = max([getattr(callback, "every_n_epochs", 0) for callback in trainer.callbacks], default=0)
            if self.sure or trainer.current_epoch + 1 < rhythm:
                return
            raise ValueError(
                f"{self.said()}, but the run measures {listed(trainer.callback_metrics)}: "
                f"{choose(self.monitor, list(trainer.callback_metrics))}"
            )
        value = float(trainer.callback_metrics[self.monitor])
        better = self.best is None or (value < self.best if self.mode == "min" else value > self.best)
        if better and math.isfinite(value):
            self.best = value
            trainer.save_checkpoint(self.folder(trainer) / "best.ckpt", weights_only=False)

    def said(self) -> str:
        """How a refusal begins."""
        return f"callbacks.checkpoints.monitor is {self.monitor}"

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step."""
        if trainer.global_step != self.saved:
            self.save(trainer, "last.ckpt")
        signals.release()

    def save(self, trainer: Trainer, name: str) -> None:
        """Write checkpoints/`name`."""
        trainer.save_checkpoint(self.folder(trainer) / name, weights_only=False)
        self.saved = trainer.global_step


def published(trainer: Trainer, module: LightningModule) -> dict[str, int | None]:
    """Name -> after how many epochs it comes (0: only when the run ends); "" -> None where a callback does not say."""
    known: dict[str, int | None] = {}
    if getattr(trainer, "datamodule", None) is not None and len(trainer.datamodule.split("val")):
        known[str(Name("val/loss", None, measured_weights(module)))] = 1
    for callback in trainer.callbacks:
        names = set()
        if hasattr(callback, "publishes"):
            names = callback.publishes(module)
        elif type(callback).__module__.partition(".")[0] not in ("lightning_gen", "pytorch_lightning"):
            names = None  # somebody else's may publish anything
        if names:
            known |= dict.fromkeys(map(str, names), callback.every_n_epochs)
        elif names is None:
            known[""] = None
    return known


def listed(names: Any) -> str:
    """Names in their order, or that there are none."""
    return ", ".join(sorted(name for name in names if name)) or "nothing"


def epochs(trainer: Trainer) -> int | None:
    """How many whole epochs the run has; None where that is not known."""
    data = getattr(trainer, "datamodule", None)
    if data is None or trainer.limit_train_batches != 1.0 or not hasattr(data, "batch_size"):
        return None
    batches = len(data.split("train")) // data.batch_size
    limits = [trainer.max_epochs] if trainer.max_epochs not in (None, -1) else []
    limits += [trainer.max_steps * trainer.accumulate_grad_batches // batches] if trainer.max_steps != -1 else []
    return min(limits, default=None)

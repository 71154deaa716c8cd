"""When a run is saved: `last` every so many steps, `best` by a metric, and where a signal or an end stops it."""

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason

from lightning_gen.callbacks.loop_state import ends_here, say_validation, validation_follows
from lightning_gen.callbacks.measuring import measuring, stop_together
from lightning_gen.callbacks.monitored import check_early_stopping, check_plateau, check_time, published, unmeasured
from lightning_gen.config.stored import CONFIG
from lightning_gen.families.by_hand import data_of
from lightning_gen.families.shards import local
from lightning_gen.metrics.gather import gather_problems
from lightning_gen.options import Checked, Count, Natural
from lightning_gen.results.result import Name
from lightning_gen.runs import signals
from lightning_gen.runs.checkpoint_file import keeping
from lightning_gen.runs.disk import lack_for_a_run, lack_for_a_save
from lightning_gen.runs.folder import RunFolder


class Checkpoints(Checked, Checkpoint):
    """Saves checkpoints/last.ckpt, best.ckpt and step-*.ckpt between two optimizer steps.

    A save at a batch that a validation follows is made after it, so that a resumed run neither loses nor repeats it.
    While it trains a signal is noted only, and read after each optimizer step on all ranks: `last` is saved and
    Stopped is raised; a validation that is due then is run by the resumed run. A fast_dev_run saves nothing.

    Args:
        every_n_steps: optimizer steps between two saves of last.ckpt, which is also saved at the end.
        monitor: name of the number, as fid/digits/ema or val/loss/ema, at whose best value best.ckpt is saved.
        mode: whether the best value is the min or the max; null for what is known of the number.
        keep_every_n_steps: optimizer steps between two step-*.ckpt, which are kept; 0 for none.
        keep_last: number of files of last.ckpt that are kept, >= 1: the previous ones are last-1.ckpt, ...
    """

    def __init__(
        self,
        every_n_steps: Count = 1000,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        keep_every_n_steps: Natural = 0,
        keep_last: Count = 2,
    ) -> None:
        if mode is None and monitor is not None:
            mode = {"lower": "min", "higher": "max"}.get(Name.parse(monitor).about.better)
        self.every_n_steps, self.monitor, self.mode = every_n_steps, monitor, mode
        self.keep_every_n_steps, self.keep_last = keep_every_n_steps, keep_last
        self.best: float | None = None
        self.sure = False
        self.metrics: dict[str, float] = {}
        self.run: dict[str, Any] = {}  # the identity of the run folder
        self.config = ""  # the text of its config.yaml
        self.step = self.saved = -1  # the last optimizer step, and that of the last save
        self.due = False  # a save after the validation that follows
        self.before_validation = False  # whether a validation follows, with which a resumed run begins

    def folder(self, trainer: Trainer) -> Path:
        """The folder of the files."""
        return Path(trainer.default_root_dir) / "checkpoints"

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, and the numbers that callbacks as EarlyStopping read at the end of an epoch."""
        return {"best": self.best, "metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both."""
        self.best, self.metrics = state_dict["best"], state_dict.get("metrics", {})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from the current step; a signal waits for its end. A run that was stopped early remains so."""
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in self.metrics.items()})
        early = [callback for callback in trainer.callbacks if isinstance(callback, EarlyStopping)]
        if any(each.stopped_epoch or each.stopping_reason is not EarlyStoppingReason.NOT_STOPPED for each in early):
            trainer.should_stop = True
        self.step = self.saved = trainer.global_step
        folder = RunFolder(Path(trainer.default_root_dir))
        self.run, self.config = folder.identity(), folder.text()
        signals.hold()  # a save in the middle of a step would see half an optimizer

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save what is due, where an optimizer step has ended."""
        step = trainer.global_step
        if step == self.step:  # inside an accumulation window, whose gradients no checkpoint holds
            return
        self.step = step
        ends = ends_here(trainer)
        stop = trainer.strategy.reduce_boolean_decision(signals.received() is not None, all=False)
        last = stop or ends or step % self.every_n_steps == 0
        copy = self.keep_every_n_steps and step % self.keep_every_n_steps == 0
        if not last and not copy:
            return
        self.before_validation = validation_follows(trainer)
        if copy:
            self.save(trainer, f"step-{step:08d}.ckpt")
        # A resumed run that has no step left to do would never run the last validation.
        self.due = last and self.before_validation and (ends or not stop)
        if last and not self.due:
            self.save_last(trainer)
            if stop:
                raise signals.stopped(f" at step {step}, saved")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the best by the monitored value, then what was due before the validation."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self.before_validation = False
        if self.monitor is not None:
            self.save_best(trainer)
        if self.due or ends_here(trainer):
            self.due = False
            self.save_last(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where a callback, as EarlyStopping, ends the run after the last save."""
        if ends_here(trainer) and self.saved != trainer.global_step:
            self.save_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step."""
        if trainer.global_step != self.saved:
            self.save_last(trainer)
        signals.release()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a disk that is too small, and a number that the run will never have, before any work."""
        if not trainer.fast_dev_run:
            lack = trainer.is_global_zero and lack_for_a_run(self.folder(trainer), self.names(trainer), pl_module)
            if lack := gather_problems(lack or None, trainer.world_size):
                raise ValueError(lack)
        known = published(trainer, pl_module)
        check_early_stopping(trainer, known)
        check_plateau(trainer, pl_module, known)
        if self.monitor is not None:
            self.check_monitor(trainer, known)

    def check_monitor(self, trainer: Trainer, known: dict[str, int | None]) -> None:
        """ValueError for a number that the run will never have, or not in time; `known` as `published` gives it."""
        every = known.get(self.monitor)
        # Somebody else's callback may publish what it likes: then only the run itself can tell.
        self.sure = every is not None or None not in known.values()
        if every is None and self.sure:
            raise ValueError(f"{self.said()}, {unmeasured(self.monitor, known)}")
        if self.mode is None:
            raise ValueError(f"{self.said()}, better low or high? write callbacks.checkpoints.mode=min or max")
        if every == 0:
            raise ValueError(f"{self.said()}, which is measured only when the run ends: set its every_n_epochs")
        check_time(trainer, self.said(), every)

    def save_best(self, trainer: Trainer) -> None:
        """Save the best by the monitored value; ValueError for a value that never comes."""
        if self.monitor not in trainer.callback_metrics:
            rhythm = max([callback.every_n_epochs for callback in measuring(trainer.callbacks)], default=0)
            if self.sure or trainer.current_epoch + 1 < rhythm:
                return
            raise ValueError(f"{self.said()}, {unmeasured(self.monitor, trainer.callback_metrics)}")
        value = float(trainer.callback_metrics[self.monitor])
        better = self.best is None or (value < self.best if self.mode == "min" else value > self.best)
        if better and math.isfinite(value):
            self.best = value
            self.save(trainer, "best.ckpt")

    def said(self) -> str:
        """How a refusal begins."""
        return f"callbacks.checkpoints.monitor is {self.monitor}"

    def save_last(self, trainer: Trainer) -> None:
        """Write last.ckpt, and keep the one before it."""
        if trainer.fast_dev_run:
            return
        # Lightning's own CheckpointIO copies into the file that is there, where $TMPDIR is on another file system.
        replaced = getattr(trainer.strategy.checkpoint_io, "replaces", False)
        last = self.folder(trainer) / "last.ckpt"
        with keeping(last, self.keep_last, replaced) if trainer.is_global_zero else nullcontext():
            self.save(trainer, "last.ckpt")
        self.saved = trainer.global_step
        if self.run and trainer.is_global_zero:
            RunFolder(Path(trainer.default_root_dir)).identify(step=self.saved)

    def save(self, trainer: Trainer, name: str) -> None:
        """Write checkpoints/`name`; NonFinite on all ranks, and no file, if a weight is not finite on any."""
        if trainer.fast_dev_run:
            return
        stop_together(trainer, nonfinite_weight(trainer))
        self.metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        path = self.folder(trainer) / name
        problem = self.disk_problem(path, trainer.lightning_module) if trainer.is_global_zero else None
        problem = gather_problems(problem, trainer.world_size)
        if problem is not None:
            raise OSError(problem)
        trainer.save_checkpoint(path, weights_only=False)

    def disk_problem(self, path: Path, module: LightningModule) -> str | None:
        """Why `path` cannot be written: the run's folder is gone, or the disk is full."""
        folder = RunFolder(path.parent.parent)
        if self.run and folder.identity().get("id") != self.run["id"]:
            return (
                f"{folder.path} no longer holds this run, expected run.json with id {self.run['id']}: it was deleted "
                "or replaced while the run trained; put it back, or start anew"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        return lack_for_a_save(path.parent, module)

    def names(self, trainer: Trainer) -> list[str]:
        """The files that the run will write, as far as its number of steps is known."""
        last = ["last.ckpt", *(f"last-{number}.ckpt" for number in range(1, self.keep_last))]
        every, best = self.keep_every_n_steps, ["best.ckpt"] * (self.monitor is not None)
        done = RunFolder(Path(trainer.default_root_dir)).identity().get("step") or 0
        copies = range((done // every + 1) * every, (final_step(trainer) or 0) + 1, every) if every else ()
        return last + best + [f"step-{step:08d}.ckpt" for step in copies]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """ValueError for a checkpoint of another run; the run keeps the checkpoint's id where run.json is gone."""
        folder = RunFolder(Path(trainer.default_root_dir))
        folder.check_identity(checkpoint, Path(trainer.ckpt_path))
        if trainer.is_global_zero and not folder.identity() and "run" in checkpoint:
            folder.identify(**checkpoint["run"])

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the run's identity and config, and whether a validation is due."""
        if self.run:
            checkpoint |= {"run": {key: self.run[key] for key in ("id", "config")}, CONFIG: self.config}
        say_validation(checkpoint["loops"]["fit_loop"], self.before_validation)


def nonfinite_weight(trainer: Trainer) -> str | None:
    """A sentence that names a weight, raw or averaged, that is not finite; None where all are. One host sync."""
    parameters = trainer.lightning_module.named_parameters()
    parts = {name: local(p.detach()) for name, p in parameters if p.is_floating_point()}
    weights = {name: part for name, part in parts.items() if part.numel()}
    if not weights or torch.stack(torch._foreach_norm(list(weights.values()), torch.inf)).isfinite().all():
        return None
    name = next(name for name, value in weights.items() if not value.isfinite().all())
    return (
        f"{name} is not finite after optimizer step {trainer.global_step} on rank {trainer.global_rank}: nothing was "
        "saved, and the last checkpoint is finite; lower module.optimizer.lr, or set trainer.gradient_clip_val"
    )


def final_step(trainer: Trainer) -> int | None:
    """The optimizer steps of the whole run; None where that is not known."""
    limits = [trainer.max_steps] if trainer.max_steps != -1 else []
    data, share = data_of(trainer), trainer.limit_train_batches
    if trainer.max_epochs not in (None, -1) and data is not None:
        batches = len(data.split("train")) // data.batch_size
        batches = int(batches * share) if isinstance(share, float) else min(batches, share)
        limits.append(trainer.max_epochs * -(-batches // trainer.accumulate_grad_batches))
    return min(limits, default=None)

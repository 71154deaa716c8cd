"""Where a run's time goes."""

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.profilers import PassThroughProfiler, Profiler

from lightning_gen.callbacks.publishing import step_of
from lightning_gen.options import Checked, Count

SHARES = ("data", "step", "logging", "evaluation")
NOTHING = nullcontext()


class Throughput(Checked, Callback):
    """speed/images_per_s and the shares of wall time in data, step, logging and evaluation, which add up to 1.

    data: fetch to batch start, moving to the device included. step: batch start to batch end. evaluation: validation
    with all that callbacks do in it. logging: the rest: loggers, progress bar, checkpoints, ends of epochs. All is the
    host's wall clock and never waits for the device: on CUDA a share is where the host stood, and images/s (of all
    ranks, evaluation left out) is right over an interval, in which the host cannot run far ahead of the device.
    """

    def __init__(self, every_n_steps: Count = 50) -> None:
        super().__init__()
        self.every_n_steps = every_n_steps
        self._watch = _Watch()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen to the start of each fetch, which no callback hook tells."""
        if not isinstance(trainer.profiler, _FetchListener):
            trainer.profiler = _FetchListener(trainer.profiler or PassThroughProfiler(), self)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._watch, self._total = _Watch(), _Watch()
        self._first = self._logged = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._watch.enter("step")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._watch.enter("logging")
        self._watch.images += batch["x"].shape[0] * trainer.world_size
        if trainer.global_step - self._logged < self.every_n_steps:
            return
        values = {f"speed/{name}": value for name, value in self._watch.summary().items()}
        for logger in trainer.loggers:
            logger.log_metrics({"epoch": trainer.current_epoch, **values}, step_of(trainer))
        self._turn(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._watch.enter("evaluation")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._watch.enter("logging")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say on rank 0 where the time went, without the first interval, which warms up and compiles."""
        self._watch.enter("logging")
        self._turn(trainer)
        watch = self._total if self._total.images else self._whole
        if trainer.is_global_zero and watch.images:
            summary = watch.summary()
            shares = ", ".join(f"{name} {summary[name]:.0%}" for name in SHARES)
            print(f"{summary['images_per_s']:,.0f} images/s over {trainer.global_step - self._first:,} steps: {shares}")

    def _turn(self, trainer: Trainer) -> None:
        """Close an interval and begin the next."""
        if self._logged == self._first:
            self._whole = self._watch
        else:
            self._total.add(self._watch)
        self._watch, self._logged = _Watch(), trainer.global_step


class _Watch:
    """Wall time by activity; one at a time."""

    def __init__(self) -> None:
        self.images = 0
        self.spent = dict.fromkeys(SHARES, 0.0)
        self._now, self._since = "logging", time.perf_counter()

    def enter(self, activity: str) -> None:
        now = time.perf_counter()
        self.spent[self._now] += now - self._since
        self._now, self._since = activity, now

    def add(self, other: "_Watch") -> None:
        self.images += other.images
        for name in SHARES:
            self.spent[name] += other.spent[name]

    def summary(self) -> dict[str, float]:
        whole = sum(self.spent.values()) or 1e-9
        training = max(whole - self.spent["evaluation"], 1e-9)
        return {"images_per_s": self.images / training} | {name: self.spent[name] / whole for name in SHARES}


class _FetchListener(Profiler):
    """Hands everything on to the trainer's own profiler and tells when training fetches a batch."""

    def __init__(self, inner: Profiler, owner: Throughput) -> None:
        super().__init__()
        self._inner, self._owner = inner, owner

    def start(self, action_name: str) -> None:
        if action_name.endswith("train_dataloader_next"):
            self._owner._watch.enter("data")
        self._inner.start(action_name)

    def stop(self, action_name: str) -> None:
        self._inner.stop(action_name)

    def profile(self, action_name: str) -> AbstractContextManager:
        """Nothing without a profiler of the trainer's own: Lightning asks it around each of a step's many hooks."""
        return NOTHING if type(self._inner) is PassThroughProfiler else self._inner.profile(action_name)

    def describe(self) -> None:
        self._inner.describe()

    def summary(self) -> str:
        return self._inner.summary()

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | None = None) -> None:
        self._inner.setup(stage, local_rank, log_dir)

    def teardown(self, stage: str | None) -> None:
        self._inner.teardown(stage)

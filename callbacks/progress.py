"""A progress bar that shows the end of the run, at next to no cost per step."""

import math
import sys
import time
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm

from lightning_gen.bar import FILE, TERMINAL, bar


class Progress(ProgressBar):
    """Optimizer steps done out of all the run's, with rate, time left and `module.last_loss`; one bar for all epochs.

    Refreshed ten times a second at most (in a file twice a minute); between refreshes a step costs one look at the
    clock. A resumed run starts at the resumed step, and its rate counts the new steps alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._train: tqdm | None = None
        self._evaluation: tqdm | None = None
        self._next = 0.0

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        total = trainer.estimated_stepping_batches
        self._every = TERMINAL if sys.stderr.isatty() else FILE
        self._train = bar(
            "training", None if math.isinf(total) else int(total), "step", trainer.global_step, self._enabled
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if now >= self._next and self._enabled:
            self._next = now + self._every
            self._show(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._train is not None:
            if self._enabled:
                self._show(trainer, pl_module)
            self._train.close()
            self._train = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        for open_bar in (self._train, self._evaluation):
            if open_bar is not None:
                open_bar.close()
        self._train = self._evaluation = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A bar of its own below, which goes away again."""
        if not trainer.sanity_checking:
            total = _count(trainer.num_val_batches)
            self._evaluation = bar("validation", total, "batch", 0, self._enabled, leave=False)

    def on_validation_batch_end(self, *_: Any) -> None:
        if self._evaluation is not None:
            self._evaluation.update()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._evaluation is not None:
            self._evaluation.close()
            self._evaluation = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._evaluation = bar("test", _count(trainer.num_test_batches), "batch", 0, self._enabled, leave=False)

    on_test_batch_end = on_validation_batch_end
    on_test_end = on_validation_end

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The batches are done; the callbacks that follow may show bars of their own."""
        self.on_validation_end(trainer, pl_module)

    def print(self, *args: Any, sep: str = " ", **kwargs: Any) -> None:
        if self._enabled:
            tqdm.write(sep.join(map(str, args)), file=kwargs.get("file"))

    def _show(self, trainer: Trainer, module: Any) -> None:
        loss = getattr(module, "last_loss", None)
        self._train.set_postfix_str("" if loss is None else f"loss {float(loss):.4g}", refresh=False)
        self._train.n = trainer.global_step
        self._train.refresh()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_train": None, "_evaluation": None}


def shows(trainer: Trainer) -> bool:
    """Whether this rank of this run shows progress bars."""
    mine = trainer.progress_bar_callback
    return isinstance(mine, Progress) and mine._enabled


def _count(batches: Any) -> int | None:
    total = sum(batches) if isinstance(batches, list | tuple) else batches
    return None if math.isinf(total) else int(total)

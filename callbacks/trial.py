"""A few training steps that are counted and timed, for stage=estimate."""

import resource
import sys
import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_gen.families.cost import Activations, Products


class Trial(Callback):
    """Counts the first optimizer step, warms up, times some, and stops.

    Args:
        counts: whether operations and activations of the first step are counted.
        warm: optimizer steps that are not timed, >= 1.
        steps: optimizer steps that are timed, at least.
        seconds: that these take, at least.
    """

    operations = activations = 0

    def __init__(self, counts: bool, warm: int, steps: int, seconds: float) -> None:
        self.counts, self.warm, self.least, self.until = counts, warm, steps, seconds
        self.seconds: list[float] = []
        self.steps: int | None = None
        self._modes: list[Any] = []
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        total = trainer.estimated_stepping_batches
        self.steps = None if total in (-1, float("inf")) else int(total)
        self._last = time.perf_counter()
        if self.counts:
            self._modes = [Activations(list(pl_module.parameters())), Products()]
            for mode in self._modes:
                mode.__enter__()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """After each optimizer step look at the clock; stop after the last."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        self.leave()
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now
        timed = self.seconds[self.warm :]
        if len(timed) >= self.least and sum(timed) >= self.until:
            trainer.should_stop = True

    def on_exception(self, *_: Any) -> None:
        """Count no longer."""
        self.leave()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Of a run that is shorter than the warming up, all steps count."""
        self.seconds = self.seconds[self.warm :] or self.seconds
        self.memory, self.memory_of = peak_memory(pl_module.device)

    def leave(self) -> None:
        """Leave the counting modes, and keep what they counted."""
        for mode in reversed(self._modes):
            mode.__exit__(None, None, None)
        if self._modes:
            self.activations, self.operations = self._modes[0].peak, self._modes[1].total
        self._modes = []


def peak_memory(device: torch.device) -> tuple[int, str]:
    """Bytes at the peak so far, and of what."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), "on the GPU"
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "of this process"

"""A few training steps that are counted and timed, for stage=estimate and for the number of threads."""

import resource
import sys
import time
from statistics import median
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


class ThreadTrial(Callback):
    """Takes steps with all threads and with one in turn, and stops; after a first one that is not timed.

    Args:
        most: all threads.
        seconds: that steps take together until one of each is enough, of a large network.
        pairs: that are enough, once they have taken a quarter of these seconds.
    """

    def __init__(self, most: int, seconds: float = 2.0, pairs: int = 3) -> None:
        self.most, self.until, self.pairs = most, seconds, pairs
        self.seconds: dict[int, list[float]] = {most: [], 1: []}
        self._step = 0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """After each optimizer step look at the clock, and change the number of threads."""
        if trainer.global_step == self._step:
            return
        self._step, now = trainer.global_step, time.perf_counter()
        if self._step > 1:
            self.seconds[torch.get_num_threads()].append(now - self._last)
        pairs, spent = len(self.seconds[1]), sum(map(sum, self.seconds.values()))
        if pairs and (spent >= self.until or (pairs >= self.pairs and 4 * spent >= self.until)):
            trainer.should_stop = True
        torch.set_num_threads(1 if len(self.seconds[self.most]) > pairs else self.most)
        self._last = time.perf_counter()

    @property
    def medians(self) -> dict[int, float]:
        """Number of threads -> seconds a step; none of a run that ended before there was a step of each."""
        return {n: median(found) for n, found in self.seconds.items()} if self.seconds[1] else {}


def peak_memory(device: torch.device) -> tuple[int, str]:
    """Bytes at the peak so far, and of what."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), "on the GPU"
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "of this process"

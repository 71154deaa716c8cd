"""A few training steps that are counted and timed, for stage=estimate, the number of threads, and compilation."""

import resource
import sys
import time
from collections.abc import Callable
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


class Turns(Callback):
    """Takes steps in two ways in turn, after one of each that is not timed, and stops.

    Args:
        ways: the two.
        change: takes the way of the steps to come.
        least: seconds that the training takes at least by the first way; a shorter one, or one whose number of steps
            is not known, is stopped before the second.
        seconds: that steps take together until one of each is enough, of a large network.
        pairs: that are enough, once they have taken a quarter of these seconds.
    """

    def __init__(
        self,
        ways: tuple[int, int],
        change: Callable[[int], object],
        least: float = 0,
        seconds: float = 2,
        pairs: int = 3,
    ) -> None:
        self.ways, self.change, self.least, self.until, self.pairs = ways, change, least, seconds, pairs
        self.first: dict[int, float] = {}
        self.seconds: dict[int, list[float]] = {way: [] for way in ways}
        self._step = self._batches = 0

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Begin in the first way."""
        total = trainer.estimated_stepping_batches
        self.steps = 0 if total in (-1, float("inf")) else int(total)
        self.turn(self.ways[0])

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """After each optimizer step look at the clock, and take turns.

        The last step of an epoch may accumulate fewer batches than others: it counts as they would take.
        """
        self._batches += 1
        if trainer.global_step == self._step:
            return
        self._step, spent, batches = trainer.global_step, time.perf_counter() - self._last, self._batches
        if self._way in self.first:
            self.seconds[self._way].append(spent * trainer.accumulate_grad_batches / batches)
        self.first.setdefault(self._way, spent)
        ours, theirs = (self.seconds[way] for way in self.ways)
        spent = sum(ours) + sum(theirs)
        enough = theirs and (spent >= self.until or (len(theirs) >= self.pairs and 4 * spent >= self.until))
        if enough or (ours and self.steps * ours[0] < self.least):
            trainer.should_stop = True
        else:
            self.turn(self.ways[len(ours) > len(theirs)])

    def turn(self, way: int) -> None:
        """Take the next step in this way."""
        self._way, self._batches = way, 0
        self.change(way)
        self._last = time.perf_counter()

    @property
    def medians(self) -> dict[int, float]:
        """Way -> seconds a step; none of a training that ended before there was a step of each."""
        return {way: median(found) for way, found in self.seconds.items()} if self.seconds[self.ways[1]] else {}


def peak_memory(device: torch.device) -> tuple[int, str]:
    """Bytes at the peak so far, and of what."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), "on the GPU"
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "of this process"

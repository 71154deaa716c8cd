"""One rank of the part `ranks` and of cluster.py: ddpm_cifar's network on random images, seconds of rank 0 as JSON.

python benchmarks/rank.py FOLDER STEPS ROUNDS WORD ..., under torchrun's variables or alone.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch  # noqa: E402
from pytorch_lightning import Callback  # noqa: E402

from benchmarks.parts.loop import composed  # noqa: E402
from lightning_gen.data.base import GenerativeData  # noqa: E402
from lightning_gen.data.split import Split  # noqa: E402
from lightning_gen.families.optimisation import Optimisation  # noqa: E402
from lightning_gen.runs.folder import RunFolder  # noqa: E402
from lightning_gen.stages.session import Session  # noqa: E402

SIZES = (2**12, 2**20, 2**23, 2**25)  # bytes of the all-reduces that are timed alone


class RandomImages(GenerativeData):
    """Random images of 3x32x32."""

    name, _shape = "random", (3, 32, 32)

    def load(self) -> dict[str, Split]:
        """As many as a few epochs need."""
        x = torch.randint(256, (4096, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return {"train": Split(x), "val": Split(x[:64]), "test": Split(x[:64])}


class Timer(Callback):
    """Seconds of each round of steps, in turn with gradients averaged over the ranks and without.

    Of the steps without, the seconds of each part as well; after every round, those of averaging alone by its bytes.
    """

    def __init__(self, steps: int, rounds: int) -> None:
        self.steps, self.rounds, self.averages, self.last, self.since, self.used = steps, rounds, True, 0.0, 0.0, 0.0
        self.seconds: dict[bool, list[float]] = {True: [], False: []}
        self.cpu: list[float] = []  # CPU seconds of the steps with averaged gradients
        self.parts: dict[str, list[float]] = {"loop": [], "forward": [], "backward": [], "update": []}
        self.reduce: dict[int, list[float]] = {size: [] for size in SIZES}
        self.busy: list[float] = []  # CPU seconds for each second of the largest of them
        backward = Optimisation.backward
        Optimisation.backward = lambda owner, loss, sync: backward(owner, loss, sync and self.averages)

    def part(self, name: str) -> None:
        """One part of a step has ended."""
        now = time.perf_counter()
        if not self.averages:
            self.parts[name].append(now - self.since)
        self.since = now

    def on_train_batch_start(self, *_: Any) -> None:
        """The batch is there."""
        self.part("loop")

    def on_before_backward(self, *_: Any) -> None:
        """The loss is there."""
        self.part("forward")

    def on_after_backward(self, *_: Any) -> None:
        """The gradients are there."""
        self.part("backward")

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Look at the clock at the end of a round; the first one is not counted."""
        self.part("update")
        if trainer.global_step % self.steps:
            return
        now, done = time.perf_counter(), trainer.global_step // self.steps
        if done > 1 and self.averages:
            self.cpu.append((time.process_time() - self.used) / self.steps)
        if done > 1:
            self.seconds[self.averages].append((now - self.last) / self.steps)
            self.averages = not self.averages
            if trainer.world_size > 1:
                self.average_alone()
        trainer.should_stop = done > 2 * self.rounds
        self.last, self.used = time.perf_counter(), time.process_time()
        self.since = self.last

    def average_alone(self) -> None:
        """Seconds of an all-reduce of each size, and CPU seconds for each of them of the largest, the last."""
        for size in SIZES:
            values = torch.zeros(size // 4)
            torch.distributed.barrier()
            start, used = time.perf_counter(), time.process_time()
            torch.distributed.all_reduce(values)
            self.reduce[size].append(time.perf_counter() - start)
        self.busy.append((time.process_time() - used) / self.reduce[size][-1])


def main(folder: str, steps: str, rounds: str, *words: str) -> None:
    """Train, and write FOLDER/seconds.json."""
    torch.set_num_threads(1)
    config, watch = composed([*words, f"run={folder}/run"]), Timer(int(steps), int(rounds))
    session = Session(config, RunFolder(Path(folder, "run")), RandomImages(batch_size=config["data"]["batch_size"]))
    session.trainer.callbacks.append(watch)
    session.fit()
    if session.trainer.is_global_zero:
        found = {"averaged": watch.seconds[True], "alone": watch.seconds[False], "parts": watch.parts, "cpu": watch.cpu}
        found |= {"reduce": watch.reduce, "busy": watch.busy}
        Path(folder, "seconds.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

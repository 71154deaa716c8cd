"""The number of threads of a training on the CPU, which small networks can lose much time by."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_gen.runs.devices import place
from lightning_gen.stages.estimate import rehearsal, rehearse
from lightning_gen.stages.session import Session, begins


@contextmanager
def chosen_threads(session: Session) -> Iterator[None]:
    """Within it, torch has the number of threads of the run: all, or one where a few steps are faster by it.

    Threads wait for each other, long where another process holds a core. Sums are rounded otherwise by another number,
    so that the run keeps its own, in run.json. Nothing is chosen where OMP_NUM_THREADS says the number, on a GPU, nor
    with several processes, to which torchrun gives one each.
    """
    import torch

    most, folder = torch.get_num_threads(), session.folder
    on_cpu = session.trainer.strategy.root_device.type == "cpu"
    if "OMP_NUM_THREADS" not in os.environ and most > 1 and place().world == 1 and on_cpu:
        folder.threads = folder.identity().get("threads")
        if folder.threads is None and begins(session):
            folder.threads = measured(session, most)
    try:
        torch.set_num_threads(min(folder.threads or most, most))  # another machine may have fewer
        yield
    finally:
        torch.set_num_threads(most)


def measured(session: Session, most: int) -> int | None:
    """One thread or all, said with the seconds of a step; None where the training is too short to tell."""
    import torch

    from lightning_gen.callbacks.trial import Turns

    watch = Turns((most, 1), torch.set_num_threads)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            rehearse(rehearsal(session.config, Path(scratch), session.data), watch)
    finally:
        torch.set_num_threads(most)
    if not (seconds := watch.medians):
        return None
    threads = min(seconds, key=seconds.get)
    told = ", ".join(f"{value:.3g} s with {n}" for n, value in sorted(seconds.items()))
    print(f"threads      {threads} of {most}: a step takes {told} (OMP_NUM_THREADS sets another number)", flush=True)
    return threads

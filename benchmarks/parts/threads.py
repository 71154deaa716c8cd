"""Two threads against one, by the clock: the U-Net's step alone, and with a core that another process holds."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.parts.loop import composed, silent
from benchmarks.parts.network import Ours, cifar, node
from benchmarks.table import Goal, Row, at_most
from benchmarks.timing import Run
from lightning_gen.config.instantiate import build
from lightning_gen.runs.folder import RunFolder
from lightning_gen.stages.session import Session
from lightning_gen.stages.threads import measured

REASON = "threads wait for each other; other processes held a core, or layers are too small to share"


def with_threads(number: int, call: Callable[[], object]) -> Callable[[], object]:
    """The call with a number of threads."""

    def run() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(number)
        try:
            call()
        finally:
            torch.set_num_threads(before)

    return run


def pair(run: Run, what: str, config: dict[str, Any], batch: int, goal: Goal | None) -> Row:
    """A step with two threads against the same with one."""
    one, x = Ours(build(config)), torch.randn(batch, *config["shape"])
    calls = {f"{n} threads": with_threads(n, lambda: one.step(x)) for n in (1, 2)}
    return run.row(
        what,
        calls["2 threads"],
        {"one thread": calls["1 threads"]},
        goal=goal,
        reason=REASON,
        clock=time.perf_counter,
    )


@contextmanager
def busy_core() -> Iterator[None]:
    """Another process computes meanwhile."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def without_cores(what: str) -> Iterator[Row]:
    """The row of a machine of one core."""
    yield Row(what, reason=f"{os.cpu_count()} core, two are needed")


def natural(run: Run) -> Iterator[Row]:
    """Two threads against one on ddpm_cifar's network."""
    what = "CIFAR-10 U-Net, a step of 8 with 2 threads"
    if (os.cpu_count() or 1) < 2:
        return (yield from without_cores(what))
    yield pair(run, what, cifar(run), run.pick(8, 2), at_most(1 / 1.8))


def digits(run: Run) -> Iterator[Row]:
    """Two threads against one on the digits' network, and what a run chooses, with a core that is taken."""
    what = "8x8 U-Net, a step of 128 with 2 threads"
    if (os.cpu_count() or 1) < 2:
        return (yield from without_cores(what))
    config, batch = node("unet_digits", (1, 8, 8)), run.pick(128, 2)
    yield pair(run, what, config, batch, None)
    with busy_core():
        yield pair(run, f"{what}, another process holds a core", config, batch, None)
        with tempfile.TemporaryDirectory() as folder, silent():
            words = ["experiment=ddpm_digits", "trainer=cpu", "logger=none", "quality=none", f"run={folder}/run"]
            session = Session(composed(words), RunFolder(Path(folder, "run")))
            session.data.setup()
            torch.set_num_threads(2)
            try:
                chosen = measured(session, 2)
            finally:
                torch.set_num_threads(1)
        one, x = Ours(build(config)), torch.randn(batch, 1, 8, 8)
        made = run.row(
            "8x8 U-Net, a step with the threads that a run chooses beside another process",
            with_threads(chosen or 2, lambda: one.step(x)),
            {"one thread": with_threads(1, lambda: one.step(x))},
            goal=at_most(1.05),
            reason=REASON,
            clock=time.perf_counter,
        )
        yield replace(made, unit=f"ms with {chosen or 2} of 2")


CASES = ()
LONG = (natural, digits)

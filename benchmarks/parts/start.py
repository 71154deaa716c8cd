"""What a run takes besides its steps: the start, until the first one; help and refusals; saves. Of whole processes."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.parts.loop import STEPS_ALONE, composed, silent
from benchmarks.table import Row, at_most
from benchmarks.timing import ROOT, Run
from lightning_gen.runs.folder import RunFolder
from lightning_gen.stages.checkpoint_io import AtomicCheckpointIO
from lightning_gen.stages.session import Session

# A run of python run.py that ends with its first optimizer step.
FIRST_STEP = """
import os, sys
import run
from lightning_gen.stages import command

session = command.Session

def made(*arguments):
    from lightning_gen.families.optimisation import Optimisation

    update = Optimisation.update

    def ends(*values):
        update(*values)
        os._exit(0)

    Optimisation.update = ends
    return session(*arguments)

command.Session = made
sys.exit(run.main(sys.argv[1:]) or 1)
"""
IMPORT = "import pytorch_lightning"


def process(words: list[str], code: int = 0) -> Callable[[], object]:
    """A call of this Python with one thread, which must end with an exit code."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def call() -> None:
        done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode != code:
            raise ValueError(f"{words} ended with {done.returncode}, expected {code}: {done.stderr[-500:]}")

    return call


def first_step(run: Run) -> Iterator[Row]:
    """From the start to the end of the first step, new and resumed, over importing pytorch_lightning."""
    words = ["experiment=ddpm_digits", "quality=none", "logger=none", "callbacks.likelihood=null"]
    words += ["callbacks.pictures=null", "callbacks.curves=null"]
    with tempfile.TemporaryDirectory() as folder:
        new, old, imports = f"run={folder}/new", f"run={folder}/old", process(["-c", IMPORT])
        process(["run.py", *words, "stage=fit", "trainer.max_steps=2", old])()
        for name, place in (("new", [new]), ("resumed", ["trainer.max_steps=4", old])):
            yield run.row(
                f"run.py to the end of the first step, {name}",
                process(["-c", FIRST_STEP, *words, *place]),
                limit=(IMPORT, imports),
                goal=at_most(1.25, "limit"),
                unit="s",
                reason="our modules, Hydra, torchvision and the data come after it",
            )


def short(run: Run) -> Iterator[Row]:
    """run.py --help, and a config that is refused."""
    reason = "importing Hydra and OmegaConf, and reading the config"
    for name, words, code in (("--help", ["--help"], 0), ("a config error", ["experiment=ddpm_cifr"], 2)):
        call, python = process(["run.py", *words], code), process(["-c", "import hydra"])
        goal, limit = at_most(0.7, "ours"), ("import hydra", python)
        yield run.row(f"run.py, {name}", call, limit=limit, goal=goal, unit="s", reason=reason)


def save(run: Run, what: str, words: list[str]) -> Iterator[Row]:
    """A save as a run writes it, beside torch.save and fsync of the same content to the same disk, by the clock."""
    with tempfile.TemporaryDirectory() as folder, silent():
        words = [
            *words,
            *(word for word in STEPS_ALONE if "max_steps" not in word),
            "trainer=cpu",
            "trainer.max_steps=1",
            f"run={folder}/run",
        ]
        session = Session(composed(words), RunFolder(Path(folder, "run")))
        session.fit()
        content = session.trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        writer, path, other = AtomicCheckpointIO(), Path(folder, "ours.ckpt"), Path(folder, "theirs.ckpt")

        def theirs() -> None:
            with other.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())

        yield run.row(
            what,
            lambda: writer.save_checkpoint(content, path),
            {"torch.save and fsync": theirs},
            unit="s",
            clock=time.perf_counter,
        )


def small_save(run: Run) -> Iterator[Row]:
    """A save of the digits' DDPM."""
    yield from save(run, "a save of ddpm_digits, by the clock", ["experiment=ddpm_digits"])


def large_save(run: Run) -> Iterator[Row]:
    """A save of ddpm_cifar's network, weights, average and Adam's moments."""
    words = ["experiment=ddpm_cifar", "data=digits", "data.batch_size=2", "data.flip=false", "net.attention=[4]"]
    words += ["sampler.steps=10", "module.compile=false"]
    words += ["net.channels=8", "net.groups=4"] if run.tiny else []
    yield from save(run, "a save of ddpm_cifar, by the clock", words)


CASES = (short,)
LONG = (first_step, small_save, large_save)

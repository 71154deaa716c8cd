"""A rank that raises, is killed, hangs or never comes: the job ends in time, says which and where, and resumes."""

import functools
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.processes import ROOT
from tests.test_run import TINY

WORDS = (*TINY, "trainer=ddp_cpu", "trainer.max_steps=12", "callbacks.checkpoints.every_n_steps=1")
WORDS += ("callbacks.likelihood=null",)


@functools.cache
def slow() -> float:
    """Seconds that this machine, as busy as it is, takes to import what a rank imports; on an idle one some 5."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", "import lightning_gen.stages.session, lightning_gen.callbacks"], cwd=ROOT)
    return time.monotonic() - begin


def limit() -> int:
    """Seconds that a rank may stand still: more than one waits for the other where both are well."""
    return math.ceil(6 + 2 * slow())


def start(*arguments):
    """torchrun --nproc-per-node 2 arguments, in a session of its own, by which those that are left are found."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    return subprocess.Popen(
        [*command, "--rdzv-endpoint", "localhost:0", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def words(folder):
    """What follows run.py."""
    return (*WORDS, f"trainer.timeout={limit()}", f"run={folder}")


def left(folder):
    """Processes that name this folder in their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words, state = (
                (process / "cmdline").read_bytes(),
                (process / "stat").read_text().rpartition(")")[2].split()[0],
            )
        except OSError:
            continue
        if str(folder).encode() in words and state != "Z":
            found.append(int(process.name))
    return found


def trial(way, step, folder):
    """One failing job: seconds from the failure to its end."""
    job = start("-m", "tests.faults.failing_rank", way, str(step), *words(folder))
    seen, saved = 0.0, folder / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 60 + 20 * slow() + limit()
    while job.poll() is None and time.monotonic() < deadline:
        if not seen and saved.is_file() and steps(saved) == step - 1:
            seen = time.monotonic()
        time.sleep(0.1)
    took = time.monotonic() - seen
    alive = left(folder)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    lines = job.communicate(timeout=60)[1].splitlines()
    assert job.returncode not in (0, None) and not alive, (alive, lines[-20:])
    told = " ".join(lines[-5:])
    assert "rank 1" in told and f"step {12 if step < 0 else step or 1}" in told, "\n".join(lines[-30:])
    # Rank 0 ends by itself: nothing keeps the next start waiting, and nobody takes a failure for a stop.
    assert not (folder / ".lock").exists() and not (folder / "stopped").exists()
    return took


def steps(checkpoint):
    """Optimizer steps of a checkpoint; -1 of one that is being replaced."""
    try:
        return torch.load(checkpoint, weights_only=True)["global_step"]
    except (OSError, RuntimeError):
        return -1


def resumes(folder):
    """The same command finishes the run."""
    job = start("run.py", *words(folder))
    assert job.wait(timeout=300) == 0, job.stderr.read()
    assert steps(folder / "checkpoints" / "last.ckpt") == 12


@pytest.mark.slow
@pytest.mark.parametrize("way", ["is stopped"])
def test_a_rank_that_hangs_is_named_and_ends_the_job(way, tmp_path):
    assert trial(way, 4, tmp_path / "run") < limit() + 10 + 2 * slow()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["raises", "is killed", "sleeps", "is stopped"])
def test_ten_trials_of_each_failure(way, tmp_path):
    took = [trial(way, 2 + number, tmp_path / str(number)) for number in range(10)]
    print(f"{way}: 10 of 10, {max(took):.1f} s at most")
    assert max(took) < limit() + 10 + 2 * slow()
    resumes(tmp_path / "3")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["raises", "is killed"])
def test_a_rank_that_fails_in_the_evaluation_does_not_stop_the_job(way, tmp_path):
    trial(way, -1, tmp_path / "run")
    resumes(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["sleeps", "is stopped"])
def test_a_rank_that_never_comes_is_named(way, tmp_path):
    for number in range(10):
        trial(way, 0, tmp_path / str(number))

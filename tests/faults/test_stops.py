"""A signal at any moment: exit 75, one sentence, nothing broken; the same command ends as if nothing had been."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

import run as entry
from tests.faults.moments import MOMENTS
from tests.processes import ROOT, free_port, place
from tests.test_run import TINY, losses

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")
WORDS = (*TINY, "trainer.max_steps=30", "trainer.check_val_every_n_epoch=1", "quality.n=40", "quality.block=8")
WORDS += ("callbacks.likelihood.batch=2", "quality.metrics=[fid,kid]", "callbacks.checkpoints.every_n_steps=7")
TRIALS = [(moment, name) for moment in MOMENTS for name in SIGNALS]
DRAW = [("start", "SIGTERM"), ("imports", "SIGUSR1"), ("validation", "SIGINT")]


def start(*words, **environment):
    """The command in a process of its own, which says where it is."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.moments", *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(process, moment):
    """Wait until the process is there."""
    for line in process.stdout:
        if line == f"at {moment}\n":
            return
    raise AssertionError(f"never at {moment}: {process.communicate()}")


def outcome(folder):
    """What a run has come to: weights, losses by step, and numbers."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    numbers = json.loads((folder / "metrics.json").read_text())
    return checkpoint["state_dict"], checkpoint["global_step"], losses(folder), numbers


def equal(one, other):
    """Whether two runs came to the same, to the bit."""
    same = one[0].keys() == other[0].keys() and all(torch.equal(one[0][key], other[0][key]) for key in one[0])
    return same and one[1:] == other[1:]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert entry.main([*WORDS, f"run={folder}"]) == 0
    return outcome(folder)


def stopped(folder, moment, name, delay):
    """Send a signal, a while after the moment; what is wrong with the end, empty where nothing is."""
    process = start(*WORDS, f"run={folder}")
    until(process, moment)
    time.sleep(delay)
    process.send_signal(getattr(signal, name))
    _, error = process.communicate(timeout=240)
    said = [line for line in error.splitlines() if line.startswith("stopped: ")]
    wrong = [] if process.returncode == 75 else [f"exit {process.returncode}"]
    wrong += ["a traceback"] if "Traceback" in error or "Exception ignored" in error else []
    wrong += [] if len(said) == 1 and name in said[0] and "resumes" in said[0] else [f"said {said}"]
    note = folder / "stopped"
    wrong += [] if note.is_file() and [note.read_text()] == [f"{line}\n" for line in said] else ["no file `stopped`"]
    wrong += ["the lock is left"] if (folder / ".lock").exists() else []
    wrong += [f"{path.name} is left" for path in folder.rglob("*") if path.name.endswith(".part")]
    return wrong and [*wrong, error[-2000:]]


def trial(folder, whole, moment, name, delay):
    """Stop a run, resume it; what is wrong, empty where nothing is."""
    wrong = stopped(folder, moment, name, delay)
    code = entry.main([*WORDS, f"run={folder}"])
    wrong += [] if code == 0 else [f"resumed with exit {code}"]
    wrong += [] if code or equal(outcome(folder), whole) else ["other weights, losses or numbers"]
    wrong += [f"{name} is left" for name in (".evaluation", "stopped", ".lock") if (folder / name).exists()]
    return wrong


@pytest.mark.parametrize(
    ("moment", "name"),
    [pytest.param(*draw, marks=() if draw[0] == "start" else pytest.mark.slow) for draw in DRAW],
)
def test_a_short_draw(moment, name, whole, tmp_path):
    assert not trial(tmp_path / "run", whole, moment, name, 0.0)


@pytest.mark.slow
def test_thirty_signals(whole, tmp_path):
    """Ten moments, three signals each, after a random while of up to a quarter of a second."""
    delays, failed = random.Random(0), {}
    for moment, name in TRIALS:
        delay = 0.0 if moment in ("metrics", "report") else delays.uniform(0, 0.25)
        if wrong := trial(tmp_path / f"{moment}-{name}", whole, moment, name, delay):
            failed[f"{name} {delay:.3f} s after {moment}"] = wrong
    print(f"\nsignals: {len(TRIALS) - len(failed)} of {len(TRIALS)} exit 75 and end as if nothing had been")
    assert not failed, json.dumps(failed, indent=1)


@pytest.mark.slow
def test_two_ranks_agree_at_the_step_at_which_one_is_told(tmp_path):
    folder, port = tmp_path / "run", str(free_port())
    words = [*WORDS, "trainer=ddp_cpu", "trainer.max_steps=100000", f"run={folder}"]
    ranks = [start(*words, **place(rank, 2, port)) for rank in range(2)]
    until(ranks[0], "step")
    ranks[1].send_signal(signal.SIGTERM)
    told = [rank.communicate(timeout=240)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [75, 75], told
    steps = {line.split(" at step ")[1] for error in told for line in error.splitlines() if "stopped:" in line}
    assert len(steps) == 1 and "by SIGTERM" in told[1] and "by a signal to another process" in told[0]
    assert (folder / "stopped").is_file()
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert steps.pop().startswith(f"{saved}, saved") and max(losses(folder)) == saved


@pytest.mark.slow
@pytest.mark.parametrize(("name", "all_told"), [("SIGTERM", False), ("SIGINT", True)])
def test_under_torchrun_the_folder_says_that_it_was_stopped(name, all_told, tmp_path):
    """torchrun alone is told, as by a scheduler, or all processes, as by Ctrl-C on a terminal."""
    folder = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(free_port()),
    ]
    words = [*WORDS, "trainer=ddp_cpu", f"run={folder}"]
    process = subprocess.Popen(
        [*command, "-m", "tests.faults.moments", *words, "trainer.max_steps=100000"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(process, "step")
    (os.killpg if all_told else os.kill)(process.pid, getattr(signal, name))
    error = process.communicate(timeout=240)[1]
    assert process.returncode == 1 and error.count("stopped: by ") == 2 and "at once" not in error, error
    note, saved = (folder / "stopped").read_text(), torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert f"by {name} at step {saved['global_step']}, saved" in note
    assert not (folder / ".lock").exists()
    ended = subprocess.run(
        [*command, "run.py", *words, f"trainer.max_steps={saved['global_step'] + 3}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert not (folder / "stopped").exists() and (folder / "metrics.json").is_file()

"""Two starts of one run folder: exactly one works, the other is refused by a sentence before any work."""

import os
import signal
import subprocess
import sys

import pytest
import torch

import run as entry
from lightning_gen.callbacks import Checkpoints
from lightning_gen.results.store import read_record
from tests.processes import ROOT
from tests.test_run import BARE

WORDS = (*BARE, "trainer.max_steps=12")


def start(*words):
    """python run.py WORDS in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *words],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def race(folder):
    """Two starts at once; the pid of the one that trained."""
    two = [start(*WORDS, f"run={folder}") for _ in range(2)]
    told = [process.communicate(timeout=240)[1] for process in two]
    assert sorted(process.returncode for process in two) == [0, 2], told
    (worked,) = (process.pid for process in two if process.returncode == 0)
    (refused,) = (error for process, error in zip(two, told, strict=True) if process.returncode == 2)
    assert refused.startswith("error: ") and refused.count("\n") == 1
    assert f"run={folder} is in use: process {worked} on " in refused and "since 2" in refused
    steps = [line["step"] for line in read_record(folder / "record.jsonl") if line["name"] == "train/loss"]
    assert steps == list(range(1, 13)) and not (folder / ".lock").exists()
    return worked


def test_a_second_start_is_refused_while_the_first_trains(tmp_path, monkeypatch):
    folder, told = tmp_path / "run", []
    save = Checkpoints.save

    def meanwhile(self, *arguments, **options):
        second = start(*WORDS, f"run={folder}")
        told.append((second.communicate(timeout=240)[1], second.returncode))
        return save(self, *arguments, **options)

    monkeypatch.setattr(Checkpoints, "save", meanwhile)
    assert entry.main([*WORDS, f"run={folder}"]) == 0
    ((error, code),) = told
    assert code == 2 and error.startswith(f"error: run={folder} is in use: process {os.getpid()} on ")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_one_of_two_starts_trains_many_times(tmp_path):
    trials = 10
    for trial in range(trials):
        race(tmp_path / str(trial))
    print(f"\nstarts: {trials} of {trials} pairs, one trained and one was refused")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["fit", "evaluate", "sample", "export"])
def test_every_stage_that_writes_waits_for_its_turn(stage, tmp_path, capsys):
    folder = tmp_path / "run"
    long = start(*WORDS, "trainer.max_steps=100000", "callbacks.checkpoints.every_n_steps=1", f"run={folder}")
    while not (folder / "checkpoints" / "last.ckpt").is_file():
        assert long.poll() is None, long.communicate()
    words = [*WORDS, "trainer.max_steps=100000"] if stage == "fit" else [f"stage={stage}"]
    assert entry.main([*words, f"run={folder}"]) == 2
    assert f"process {long.pid} on" in capsys.readouterr().err
    os.kill(long.pid, signal.SIGKILL)
    long.wait()
    assert (folder / ".lock").exists()
    if stage != "fit":
        assert entry.main([f"stage={stage}", f"run={folder}", "quality=none"][: 3 if stage == "evaluate" else 2]) == 0
        assert not (folder / ".lock").exists()
        assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("end", ["| head -1", "2>&1 | head -1", ">&- 2>&-"])
def test_a_closed_stdout_does_not_end_the_training(end, tmp_path):
    words = [*WORDS, f"run={tmp_path / 'run'}"]
    command = f'"{sys.executable}" -u "{ROOT / "run.py"}" "$@" {end}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command, "run", *words], env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=240, check=False
    )
    assert done.returncode == 0 and (tmp_path / "run" / "report.html").is_file()
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 12


@pytest.mark.parametrize(("text", "left"), [("stopped: by SIGTERM; it resumes\n", False), ("mine\n", True)])
def test_a_start_that_is_refused_leaves_no_note_of_an_older_stop(text, left, tmp_path, capsys):
    """By which a script would requeue what can only be refused again."""
    note = tmp_path / "run" / "stopped"
    note.parent.mkdir()
    note.write_text(text)
    assert entry.main([*BARE, "trainer.max_steps=0", f"run={note.parent}"]) == 2
    assert "max_steps is 0" in capsys.readouterr().err
    assert note.exists() == left

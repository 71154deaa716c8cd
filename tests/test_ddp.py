"""Two real processes over gloo: what they learn and measure, and the ways in which a user may start them."""

import json
import re
import shutil

import pytest
import torch

import run as entry
from tests.processes import fork_two, torchrun
from tests.ranks import main
from tests.test_run import TINY, losses

WORDS = ("trainer.max_steps=6", "quality.n=150", "callbacks.likelihood.n=80", "callbacks.likelihood.batch=16")


def words(folder):
    """A run on two ranks."""
    return [*TINY, *WORDS, "trainer=ddp_cpu", f"run={folder / 'run'}"]


def rank(folder):
    """One of them, with its witness."""
    assert main(str(folder), -1, words(folder)) == 0


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    fork_two(rank, folder)
    return folder, [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]


def test_ranks_end_with_equal_weights_from_different_noise(two):
    folder, (first, second) = two
    assert all(torch.equal(first["weights"][key], second["weights"][key]) for key in first["weights"])
    saved = torch.load(folder / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(first["weights"][key], saved[key]) for key in saved)
    for a, b in zip(first["noise"], second["noise"], strict=True):
        assert not torch.equal(a, b)
    for a, b in zip(first["indices"], second["indices"], strict=True):
        assert len(a) == len(b) == 32 and not set(a) & set(b)


def test_one_folder_and_one_record(two):
    folder, _ = two
    assert sorted(losses(folder / "run")) == list(range(1, 7))
    lines = (folder / "run" / "record.jsonl").read_text().splitlines()
    names = [(line["name"], line["step"]) for line in map(json.loads, lines) if "name" in line]
    assert len(names) == len(set(names))
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["run"]


def test_two_ranks_measure_what_one_process_measures(two):
    folder, _ = two
    together = json.loads((folder / "run/metrics.json").read_text())
    assert entry.main(["stage=evaluate", f"run={folder / 'run'}", "trainer=cpu"]) == 0
    alone = json.loads((folder / "run/metrics.json").read_text())
    assert alone.keys() == together.keys()
    for name in alone:
        assert together[name]["value"] == pytest.approx(alone[name]["value"], rel=1e-6, abs=1e-9), name
        assert together[name]["protocol"] == alone[name]["protocol"], name
    assert alone["fid/digits/ema"]["protocol"]["n"] == 150


def test_a_resume_on_another_number_of_ranks_says_what_changes(two, tmp_path, capsys):
    shutil.copytree(two[0] / "run", tmp_path / "run")
    assert entry.main([*TINY, *WORDS, "trainer.max_steps=7", f"run={tmp_path / 'run'}"]) == 0
    assert "resumed on 1 ranks, before on 2" in capsys.readouterr().out


@pytest.mark.slow  # tests/families/test_players.py says the same of two players
def test_a_rank_that_diverges_stops_both_and_is_named(tmp_path):
    done = torchrun("-m", "tests.ranks", str(tmp_path), "1", *words(tmp_path))
    assert done.returncode != 0
    assert len(re.findall("training loss.*not finite.*rank 1", done.stderr)) == 2, done.stderr
    assert "3 to 3" in done.stderr
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("environment", "words", "sentence"),
    [
        ({"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, [], "trainer=ddp"),
        (
            {
                **{"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"},
                **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
            },
            ["fresh=true"],
            "run=",
        ),
        ({"WORLD_SIZE": "2"}, [], "RANK"),
        ({}, ["trainer.devices=64"], "torchrun"),
        ({}, ["trainer.num_nodes=2"], "--nnodes 2"),
        ({"SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, [], "SLURM_NODEID"),
        ({}, ["-m", "seed=0,1", "trainer=ddp_cpu", "trainer.devices=2"], "torchrun"),
    ],
)
def test_processes_are_started_from_outside(environment, words, sentence, tmp_path, monkeypatch, capsys):
    """Trap: Lightning's launcher would run the command, or the whole sweep, anew in each child."""
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(tmp_path)
    assert entry.main([*TINY, *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

"""`-m launcher=slurm`, up to its submission: what a task runs, and what is refused before."""

import re
import subprocess
import sys

import pytest

import run as entry
from lightning_gen.config.command_line.request import request
from lightning_gen.config.command_line.sweep import tasks as tasks_of
from lightning_gen.config.command_line.words import split
from lightning_gen.config.compose import launch
from lightning_gen.errors import ConfigError
from lightning_gen.stages import array, command
from tests.faults.inputs import pictures
from tests.processes import place
from tests.test_run import BARE

LAUNCHER = ("-m", "launcher=slurm", "launcher.partition=gpu")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working folder on a machine with the package and SLURM."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(array, "installed", lambda plugin: True)
    monkeypatch.setattr(array.shutil, "which", lambda name: f"/usr/bin/{name}")
    return tmp_path


def tasks(*words):
    parts = split(["-m", *words], command.CONFIGS)
    return tasks_of(parts, request(parts), command.examined)


def test_each_task_has_the_command_line_of_its_own_job(folder):
    words = ("net=resnet_digits,unet_digits", "init=/a b", f"--config-dir={folder}", "run=some/name", "seed=3")
    found = tasks(*words)
    assert len(found) == 2
    for task, net in zip(found, ("resnet_digits", "unet_digits"), strict=True):
        assert str(task.folder) == f"some/name-net={net}"
        kept = [f"--config-dir={folder}", "init=/a b", "seed=3", f"net={net}", f"run={task.folder}"]
        assert sorted(task.words) == sorted(kept)
    # The command line of a task is read as the sweep was.
    seen = []
    assert launch(lambda *job: seen.append(job), command.CONFIGS, found[0].words) == 0
    config, run = seen[0]
    assert (config["seed"], config["init"], run) == (3, "/a b", found[0].folder)
    assert config["net"]["_target_"].endswith("ResNetEnergy")


def test_two_tasks_never_share_a_folder():
    with pytest.raises(ConfigError, match="folder of 2 jobs"):
        tasks("init=a/b,a_b", "run=name")


def test_every_job_of_the_sweep_is_checked_before_one_is_submitted():
    with pytest.raises(ConfigError) as refused:
        tasks("seed=-1,-2")
    told = "\n".join(refused.value.faults)
    assert "seed is -1" in told and "seed is -2" in told


DATA = ("data=folder", "data.size=8", "data.batch_size=4", "run=out")


ONE_BY_ONE = [
    ((*DATA, "data.path=pictures,nowhere"), ["nowhere is not a folder.*in the job data.path=nowhere"]),
    ((*DATA, "data.path=nowhere", "seed=1,2"), [r"nowhere is not a folder: set [^(]*$"]),
]
MORE = [
    ((*DATA, "data.path=pictures,empty"), ["empty holds no PNG.*in the job data.path=empty"]),
    ((*DATA, "data.path=pictures,damaged"), ["damaged/a.png cannot be read.*in the job data.path=damaged"]),
    (
        (*DATA, "data.path=pictures,nowhere", "seed=1,2"),
        ["nowhere is not a folder.*in the job data.path=nowhere seed=1 and 1 more"],
    ),
    (
        ("data=npz", "run=out", "data.path=a.npz,torn.npz"),
        ["a.npz is not a file.*in the job", "torn.npz cannot be read.*in the job"],
    ),
    (("data=mnist", "data.root=nowhere", "data.download=true,false"), ["MNIST is not in nowhere.*=[Ff]alse"]),
    (("seed=1,-1",), ["seed is -1.*in the job seed=-1"]),
]


@pytest.mark.parametrize(
    ("launcher", "words", "faults"),
    [
        *(((), *row) for row in ONE_BY_ONE),
        (LAUNCHER[1:], *ONE_BY_ONE[0]),
        *(pytest.param((), *row, marks=pytest.mark.slow) for row in MORE),
        *(pytest.param(LAUNCHER[1:], *row, marks=pytest.mark.slow) for row in MORE),
    ],
)
def test_a_sweep_names_the_job_whose_data_are_wrong_before_any_begins(
    launcher, words, faults, folder, capsys, monkeypatch
):
    pictures(folder / "pictures", 1)
    pictures(folder / "damaged", 0)
    (folder / "empty").mkdir()
    (folder / "damaged" / "a.png").write_text("junk")
    (folder / "torn.npz").write_bytes(b"PK")
    monkeypatch.setattr(command, "job", lambda *_: pytest.fail("a job has begun"))
    before = sorted(folder.iterdir())
    assert entry.main([*BARE, "-m", *launcher, *words]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == len(faults), errors
    for error, fault in zip(errors, faults, strict=True):
        assert error.startswith("error: ") and re.search(fault, error)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-m", "launcher=slurm", "seed=0,1"), "launcher.partition"),
        (("-m", "launcher=local", "seed=0,1"), "launcher is local"),
        (("-m", "launcher.partition=gpu", "seed=0,1"), "launcher is not given"),
        (("launcher=slurm", "launcher.partition=gpu"), "lightning-gen slurm"),
        ((*LAUNCHER, "launcher.gpus=two", "seed=0,1"), "launcher.gpus"),
        ((*LAUNCHER, "launcher.gpu=2", "seed=0,1"), "launcher.gpu=2"),
        ((*LAUNCHER, "launcher.parallel=0", "seed=0,1"), "launcher.parallel is 0"),
        ((*LAUNCHER, "launcher.nodes=0", "seed=0,1"), "launcher.nodes is 0"),
        ((*LAUNCHER, "launcher.tasks=2", "seed=0,1"), "trainer=ddp"),
        ((*LAUNCHER, "fresh=true", "seed=0,1"), "fresh=true"),
        ((*LAUNCHER, "sed=0,1"), "sed is no key"),
    ],
)
def test_what_would_fail_in_the_queue_is_refused_before(words, sentence, folder, capsys):
    assert entry.main([*BARE, *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_several_processes_do_not_all_submit(folder, monkeypatch, capsys):
    for name, value in place(1, 2, 29500).items():
        monkeypatch.setenv(name, value)
    assert entry.main([*LAUNCHER, "seed=0,1"]) == 2
    assert "2 processes" in capsys.readouterr().err and not list(folder.iterdir())


def test_a_task_leaves_the_exit_code_of_its_command(folder):
    """In a process of its own, which it ends with that code as submitit would not."""
    code = f"from lightning_gen.stages.array import run_task; run_task([[], ['sed=1']], Path({str(folder)!r}), 1)"
    done = subprocess.run([sys.executable, "-c", f"from pathlib import Path; {code}"], check=False)
    assert done.returncode == 2 and array.code_file(folder, 1).read_text() == "2\n"


def test_without_the_package_or_slurm_it_is_said_what_is_needed(folder, monkeypatch, capsys):
    monkeypatch.setattr(array.shutil, "which", lambda name: None)
    assert entry.main([*LAUNCHER, "seed=0,1"]) == 2
    assert "sbatch" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, "hydra_plugins.hydra_submitit_launcher", None)
    assert entry.main([*LAUNCHER, "seed=0,1"]) == 2
    assert "pip install 'lightning-gen[slurm]'" in capsys.readouterr().err
    assert not list(folder.iterdir())

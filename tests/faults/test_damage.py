"""Truncated, flipped and overwritten files: each is named, and the file before it is taken, or it is refused."""

import random
import shutil
from pathlib import Path

import pytest
import torch

import run as entry
from lightning_gen.runs import checkpoint_file
from lightning_gen.runs.checkpoint_file import Damaged
from lightning_gen.runs.folder import RunFolder
from lightning_gen.runs.load import check_finite
from tests.faults.inputs import pictures
from tests.test_run import BARE

# What is damaged -> the checkpoint that is taken, None where nothing can be.
CASES = {
    ("last.ckpt",): "last-1.ckpt",
    ("last.ckpt", "last-1.ckpt"): "step-00000012.ckpt",
    ("last.ckpt", "last-1.ckpt", "step-00000012.ckpt"): "step-00000006.ckpt",
    ("best.ckpt",): None,
    ("export/model.safetensors",): None,
}


def damage(path: Path, draw: random.Random) -> str:
    """Change a file in one of several ways; which, and where."""
    data = bytearray(path.read_bytes())
    where, way = draw.randrange(len(data)), draw.choice(["truncated", "flipped", "zeroed", "overwritten", "longer"])
    if way == "truncated":
        data = data[:where]
    elif way == "flipped":
        data[where] ^= 1 << draw.randrange(8)
    elif way == "longer":
        data += bytes(draw.randrange(1, 4096))
    else:
        new = bytes(4096) if way == "zeroed" else draw.randbytes(4096)
        data = data[:where] + bytes(255 - old if old == b else b for old, b in zip(data[where:], new, strict=False))
    path.write_bytes(data)
    return f"{way} at {where} of {path.stat().st_size}"


def found(folder: Path, names: tuple[str, ...], taken: str | None, said) -> bool:
    """Whether each damaged file is named, and the one before them is taken."""
    said.readouterr()
    run = RunFolder(folder)
    if taken is not None:
        path = run.newest()
        text = said.readouterr().err
        return path == folder / "checkpoints" / taken and all(f"{name} is damaged" in text for name in names)
    (name,) = names
    source = RunFolder(folder / "export") if "export" in name else RunFolder.of(folder / "checkpoints" / name)
    try:
        source.weights()
    except Damaged as error:
        return str(folder) in str(error) and name.rpartition("/")[2] in str(error)
    return False


def file_of(folder: Path, name: str) -> Path:
    """A file of a run folder by its name in CASES."""
    return folder / name if "/" in name else folder / "checkpoints" / name


@pytest.fixture
def exported(wholes, tmp_path, capfd):
    """A copy of a finished run with its export."""
    shutil.copytree(wholes("vae", 1).path, tmp_path / "run")
    assert entry.main(["stage=export", f"run={tmp_path / 'run'}"]) == 0
    return tmp_path / "run"


@pytest.mark.parametrize("trials", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_damaged_files_are_found(trials, exported, capfd):
    draw, failed = random.Random(0), []
    for number in range(trials):
        names, taken = list(CASES.items())[number % len(CASES)]
        files = {file_of(exported, name): file_of(exported, name).read_bytes() for name in names}
        ways = [damage(path, draw) for path in files]
        if not found(exported, names, taken, capfd):
            failed.append((names, ways))
        for path, whole in files.items():
            path.write_bytes(whole)
    assert RunFolder(exported).newest() == exported / "checkpoints" / "last.ckpt"
    print(f"\ndamaged files: {trials - len(failed)} of {trials} named, and passed over or refused")
    assert not failed


def test_a_newer_copy_is_taken_before_an_older_last_one(exported, capfd):
    """last-1.ckpt of step 15 and step-*.ckpt of 18: the copy of most steps."""
    checkpoints, run = exported / "checkpoints", RunFolder(exported)
    (checkpoints / "last.ckpt").unlink()
    assert checkpoint_file.steps(run.newest()) == 15 and run.newest().name == "last-1.ckpt"
    newer = checkpoint_file.read(checkpoints / "last-1.ckpt") | {"global_step": 18}
    checkpoint_file.write(newer, checkpoints / "step-00000018.ckpt")
    assert run.newest().name == "step-00000018.ckpt"
    assert "last.ckpt does not exist: step-00000018.ckpt is taken" in capfd.readouterr().err
    torch.save({"other": 1}, checkpoints / "step-00000019.ckpt")
    assert run.newest().name == "step-00000018.ckpt"
    assert "step-00000019.ckpt is no checkpoint of a run" in capfd.readouterr().err


def test_weights_that_are_not_finite_are_refused_and_buffers_may_be(tmp_path):
    module = torch.nn.Linear(2, 2)
    module.register_buffer("mask", torch.full((2,), -torch.inf))
    check_finite(module, RunFolder(tmp_path))
    module.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="weight"):
        check_finite(module, RunFolder(tmp_path))


@pytest.mark.parametrize(
    "words",
    [("stage=sample", "n=1", "run={export}"), pytest.param(("init={export}", "run={new}"), marks=pytest.mark.slow)],
)
def test_the_command_names_a_damaged_export(words, exported, tmp_path, capfd):
    damage(exported / "export" / "model.safetensors", random.Random(0))
    words = [word.format(export=exported / "export", new=tmp_path / "new") for word in words]
    assert entry.main(words) == 2
    error = capfd.readouterr().err
    assert "model.safetensors is damaged" in error and error.count("error:") == 1 and "Traceback" not in error


@pytest.mark.slow
def test_a_streamed_run_resumes_with_its_own_pictures_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, run = pictures(tmp_path / "pictures"), tmp_path / "run"
    streamed = (
        *BARE,
        "data=folder",
        "data.batch_size=4",
        "data.val_size=1",
        "net.attention=[8]",
        "data.memory_limit=0",
    )

    def start(steps, code, said=""):
        capsys.readouterr()
        words = (*streamed, f"trainer.max_steps={steps}", f"data.path={folder}", f"run={run}")
        assert entry.main(words) == code
        assert said in capsys.readouterr().err

    start(2, 0)
    known = RunFolder(run).identity()["data"]
    folder = folder.rename(tmp_path / "moved")
    start(4, 0)
    wholes = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    for path, whole in wholes.items():
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # same names and sizes
    start(6, 2, f"expected {known}")
    for path, whole in wholes.items():
        path.write_bytes(whole)
    start(6, 0)
    RunFolder(run).identify(data="0123456789abcdef")  # of an older version
    start(8, 0, f"warning: {run} takes moved as it is")
    assert RunFolder(run).identity()["data"] == known
    run = tmp_path / "damaged"
    for path, whole in [*wholes.items()][2:]:
        path.write_bytes(whole[:-40])
    start(8, 1, "is damaged")
    for path, whole in wholes.items():
        path.write_bytes(whole)
    start(8, 0)
    assert RunFolder(run).identity()["data"] == known

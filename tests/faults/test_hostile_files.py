"""Files from a stranger: none runs code, writes elsewhere or takes long; each is refused by a sentence."""

import json
import os
import pickle
import shutil
import struct
import time
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import run as entry
from lightning_gen.errors import Stopped
from lightning_gen.runs import checkpoint_file
from lightning_gen.runs.atomic import replacing
from lightning_gen.runs.folder import RunFolder
from tests.test_hostile import HOSTILE, PAGES, Payload, changed, export, theirs  # noqa: F401  # fixtures

LONGEST = 10.0  # seconds
COUNTS: Counter[str] = Counter()
SAMPLE = ("stage=sample", "run=theirs", "n=1", "sampler.steps=1")
PICTURES = ("data=folder", "data.path=pictures", "net.channels=8", "net.groups=4", "logger=none", "run=out")
DEEP = "[" * 200_000 + "]" * 200_000
CALLS = {
    "os.system": "touch MARK",
    "subprocess.run": ["touch", "MARK"],
    "torch.load": "theirs/extra.pt",
    "pickle.load": "theirs/extra.pt",
    "importlib.import_module": "evil",
    "builtins.exec": "open('MARK', 'w')",
    "pathlib.Path.touch": "MARK",
}
NODES = ("data", "net", "module", "module.loss", "module.optimizer", "module.scheduler", "sampler", "quality")
NODES += ("quality.features", "callbacks.checkpoints", "callbacks.x", "data.path", "net.multipliers")


def called_in(folder: Path, node: str, target: str) -> None:
    """Put a call in a node of the stored config."""
    file = folder / "config.yaml"
    config = yaml.safe_load(file.read_text())
    *above, key = node.split(".")
    parent = config
    for name in above:
        parent[name] = parent.get(name) or {}
        parent = parent[name]
    parent[key] = {"_target_": target, "_args_": [CALLS[target]]}
    file.write_text(yaml.safe_dump(config))


def run_of(folder: Path) -> Path:
    """Make the export a run folder whose checkpoint the test then writes."""
    (folder / "model.safetensors").unlink()
    (folder / "checkpoints").mkdir()
    return folder / "checkpoints" / "last.ckpt"


def safetensors(header: bytes, body: bytes = b"", size: int | None = None) -> bytes:
    """A file with any header."""
    return struct.pack("<Q", len(header) if size is None else size) + header + body


def png(width: int, height: int, rows: bytes) -> bytes:
    """A PNG that claims any size."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def archive(path: Path, member: str, data: bytes, times: int = 1) -> None:
    """A zip file with one member of so many copies of `data`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open(member, "w", force_zip64=True) as stream:
        for _ in range(times):
            stream.write(data)


def npy(shape: tuple[int, ...]) -> bytes:
    """The head of an array of that shape."""
    text = repr({"descr": "|u1", "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def pickled_checkpoint(folder: Path) -> None:
    torch.save({"global_step": 1, "state_dict": Payload("MARK")}, run_of(folder))


def sealed_checkpoint(folder: Path) -> None:
    checkpoint_file.write({"global_step": 1, "state_dict": Payload("MARK")}, run_of(folder))


def bare_pickle(folder: Path) -> None:
    run_of(folder).write_bytes(pickle.dumps(Payload("MARK")))


def pickle_for_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(Payload("MARK")))


def names_of_weights(folder: Path) -> None:
    names = {
        f"model.{name}": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in ("__class__", "../MARK")
    }
    (folder / "model.safetensors").write_bytes(safetensors(json.dumps(names).encode(), bytes(4)))


def endless_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(safetensors(b"{}", size=1 << 62))


def deep_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(safetensors(DEEP.encode()))


def weights_elsewhere(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("/dev/zero")


def config_elsewhere(folder: Path) -> None:
    (folder / "config.yaml").unlink()
    (folder / "config.yaml").symlink_to("/etc/passwd")


def record_elsewhere(folder: Path) -> None:
    (folder / "record.jsonl").symlink_to("../MARK")


def pieces_elsewhere(folder: Path) -> None:
    (folder / ".evaluation").symlink_to("..")


def pipe_for_config(folder: Path) -> None:
    (folder / "config.yaml").unlink()
    os.mkfifo(folder / "config.yaml")


def pipe_for_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def deep_identity(folder: Path) -> None:
    run_of(folder)
    (folder / "run.json").write_text(DEEP)


def deep_metrics(folder: Path) -> None:
    (folder / "metrics.json").write_text(DEEP)
    shutil.copytree(folder, folder.with_name("other"))


def no_run_identity(folder: Path) -> None:
    run_of(folder)
    (folder / "run.json").write_text("[1]")


COMPARE = ("stage=compare", "runs=[theirs,other]", "logger=none")
FOLDERS = {
    pickled_checkpoint: SAMPLE,
    sealed_checkpoint: SAMPLE,
    bare_pickle: SAMPLE,
    pickle_for_weights: SAMPLE,
    names_of_weights: SAMPLE,
    endless_header: SAMPLE,
    deep_header: SAMPLE,
    weights_elsewhere: SAMPLE,
    config_elsewhere: SAMPLE,
    record_elsewhere: SAMPLE,
    pieces_elsewhere: SAMPLE,
    pipe_for_config: SAMPLE,
    pipe_for_weights: SAMPLE,
    deep_identity: SAMPLE,
    no_run_identity: SAMPLE,
    deep_metrics: COMPARE,
}
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>touch('MARK')</script><image href='file:///etc/passwd'/></svg>"
IMAGES = {
    "svg": SVG,
    "too many pixels": png(30_000, 30_000, zlib.compress(bytes(1000))),
    "more pixels than data": png(4096, 4096, zlib.compress(bytes(1000))),
    "zip": None,
}


def refused(words, capfd, most=1) -> list[str]:
    """What is wrong with how the command meets its input; empty where it refuses it by at most so many sentences."""
    since = time.monotonic()
    code = entry.main(list(words))
    printed, took = capfd.readouterr().err, time.monotonic() - since
    wrong = [] if code == 2 else [f"exit {code}"]
    faults = printed.splitlines()
    wrong += [] if 1 <= len(faults) <= most and all(f.startswith("error: ") for f in faults) else [printed[-1000:]]
    wrong += ["/etc/passwd was read"] if "root:" in printed else []
    wrong += [f"{took:.1f} s"] if took > LONGEST else []
    wrong += ["its code ran"] if list(Path.cwd().rglob("MARK")) else []
    COUNTS["tried"] += 1
    COUNTS["refused"] += not wrong
    return wrong


@pytest.fixture(scope="module", autouse=True)
def counts():
    yield
    print(f"\nhostile files and configs: {COUNTS['refused']} of {COUNTS['tried']} refused in time, none ran")


def drawn(cases, quick):
    """The cases for parametrize, all but the quick ones slow."""
    return [
        pytest.param(case, id=getattr(case, "__name__", None), marks=[pytest.mark.slow] * (case not in quick))
        for case in cases
    ]


@pytest.mark.parametrize("attack", drawn(FOLDERS, (sealed_checkpoint,)))
def test_a_hostile_folder(attack, theirs, capfd):  # noqa: F811
    attack(theirs)
    assert not refused(FOLDERS[attack], capfd)


@pytest.mark.slow
@pytest.mark.parametrize("target", CALLS)
def test_a_call_in_any_node(target, theirs, capfd):  # noqa: F811
    whole = (theirs / "config.yaml").read_bytes()
    for node in NODES:
        called_in(theirs, node, target)
        assert not refused(SAMPLE, capfd, most=2), node
        (theirs / "config.yaml").write_bytes(whole)


@pytest.mark.parametrize("kind", drawn(IMAGES, ("svg",)))
def test_a_hostile_picture(kind, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for place in range(40):
        Image.new("L", (8, 8), place).save(tmp_path / "pictures" / f"{place:02}.png")
    os.mkfifo(tmp_path / "pictures" / "pipe.png")
    if IMAGES[kind] is None:
        archive(tmp_path / "pictures" / "00.png", "x", bytes(1 << 20), 100)
    else:
        (tmp_path / "pictures" / "00.png").write_bytes(IMAGES[kind])
    assert not refused(PICTURES, capfd)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(10**10, 8, 8, 1), (10**6, 4096, 4096, 3), (2**62, 8, 8, 1)])
def test_an_archive_that_claims_more_than_there_is(shape, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for member in ("images.npy", "x_train.npy", "arr_0.npy"):
        archive(tmp_path / "bomb.npz", member, npy(shape) + bytes(1000))
        assert not refused(("data=npz", "data.path=bomb.npz", "logger=none", "run=out"), capfd)
        assert not refused(("stage=evaluate", "samples=bomb.npz", "logger=none", "quality=pixels", "run=out"), capfd)


@pytest.mark.slow
def test_pages_are_refused_in_time(theirs, capfd):  # noqa: F811
    for name, page in PAGES.items():
        (theirs / "config.yaml").write_text(page)
        assert not refused(SAMPLE, capfd), name


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_configs_are_refused_in_time(name, theirs, capfd):  # noqa: F811
    changed(theirs, **HOSTILE[name])
    assert not refused(SAMPLE, capfd, most=4)


def test_the_note_of_a_stop_is_written_through_no_link(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "stopped").symlink_to("mine.txt")
    with pytest.raises(Stopped), RunFolder(tmp_path).stop_note():
        (tmp_path / "stopped").symlink_to("mine.txt")
        raise Stopped("by SIGTERM")
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "stopped").read_text() == "stopped: by SIGTERM\n"


def test_a_link_at_the_name_of_a_new_file_is_not_followed(tmp_path):
    (tmp_path / "metrics.json.part").symlink_to(tmp_path / "MARK")
    with replacing(tmp_path / "metrics.json") as partial:
        partial.write_text("{}")
    assert not (tmp_path / "MARK").exists() and not (tmp_path / "metrics.json").is_symlink()

"""A disk that is full, or becomes so in the middle of a save: no good checkpoint is lost, and the run goes on later."""

import errno
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import run as entry
from lightning_gen.callbacks import Checkpoints
from lightning_gen.runs import checkpoint_file
from tests.faults.jobs import Job
from tests.faults.wholes import LONGEST, Whole

SIZE = 40 << 20  # bytes of the small disk
FILLER = ".filler"


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own; where none can be mounted, a folder, in which writing fails by itself."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def filling(disk: Path, save: int, left: int, unseen: bool) -> Callable[[int], None]:
    """What a child does before the command: at its `save`-th save the disk has `left` bytes, which is seen or not."""

    def before(rank: int) -> None:
        seen, original, usage = [], Checkpoints.save, shutil.disk_usage

        def filled(self, trainer, name):
            seen.append(name)
            if len(seen) == save:
                if os.path.ismount(disk):
                    with open(disk / FILLER, "wb") as file:
                        os.posix_fallocate(file.fileno(), 0, usage(disk).free - left)
                else:
                    checkpoint_file._Hashed.write = refused
                    shutil.disk_usage = lambda path: usage(path)._replace(free=left)
                if unseen:
                    shutil.disk_usage = lambda path: usage(path)._replace(free=SIZE)
            original(self, trainer, name)

        def refused(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        Checkpoints.save = filled

    return before


def trial(whole: Whole, disk: Path, folder: Path, draw: random.Random) -> str:
    """Fill the disk at a save, look at what is left, resume with space; what is wrong, empty where nothing is."""
    run, save = disk / "run", draw.randint(2, 9)
    left, unseen = draw.randrange(0, (whole.path / "checkpoints" / "last.ckpt").stat().st_size), draw.random() < 0.7
    job = Job([*whole.words, f"run={run}"], whole.world, folder / "full", filling(disk, save, left, unseen))
    codes = job.wait(LONGEST)
    job.kill()
    said, where = job.log.read_text(), f"save {save} with {left} bytes left, {'unseen' if unseen else 'seen'}"
    wrong = [] if set(codes) == {1} else [f"exit {codes}"]
    wrong += [] if said.count("error: ") == 1 and "space" in said and "Traceback" not in said else [said[-1500:]]
    files = list((run / "checkpoints").glob("*.ckpt"))
    wrong += [f"{path.name} is lost" for path in files if checkpoint_file.damage(path) is not None]
    wrong += [] if files else ["no checkpoint is left"]
    (disk / FILLER).unlink(missing_ok=True)
    again = Job([*whole.words, f"run={run}"], whole.world, folder / "resumed")
    codes = again.wait(LONGEST)
    again.kill()
    wrong += [f"resumed with {codes}: {again.log.read_text()[-1500:]}"] if set(codes) != {0} else []
    wrong += [] if wrong else filter(None, [whole.difference(run)])
    return f"{where}: {', '.join(wrong)}" if wrong else ""


@pytest.mark.slow
def test_no_checkpoint_is_lost_on_a_full_disk(wholes, disk, tmp_path):
    draw, failed, trials = random.Random(3), [], 20
    for number in range(trials):
        (folder := tmp_path / str(number)).mkdir()
        wrong = trial(wholes("vae", 1), disk, folder, draw)
        failed += [wrong] if wrong else []
        shutil.rmtree(disk / "run")
    where = "a tmpfs" if os.path.ismount(disk) else "a patched write"
    print(f"\nfull disks ({where}): {trials - len(failed)} of {trials} lost no checkpoint and resumed to the same bits")
    assert not failed, "\n".join(failed)


def test_a_save_that_finds_no_space_says_so_and_keeps_the_old_file(tmp_path):
    """torch reports an error of its own in the place of the disk's; here a limit of the process is the disk's."""
    path, before = tmp_path / "last.ckpt", resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoint_file.write({"global_step": 1, "weights": torch.zeros(1000)}, path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"last.ckpt") as caught:
            checkpoint_file.write({"global_step": 2, "weights": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert checkpoint_file.read(path)["global_step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_disk_that_is_too_small_is_refused_before_the_run(wholes, tmp_path, monkeypatch, capfd):
    usage, whole = shutil.disk_usage(tmp_path), wholes("vae", 1)
    sizes = [path.stat().st_size for path in (whole.path / "checkpoints").glob("*.ckpt")]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=sum(sizes)))
    assert entry.main([*whole.words, f"run={tmp_path / 'run'}"]) == 2
    error = capfd.readouterr().err
    assert f"has {sum(sizes):,} bytes free" in error and f"{len(sizes)} checkpoints" in error and "run=" in error
    assert error.count("error:") == 1 and "Traceback" not in error and not (tmp_path / "run").exists()

"""A run in forked children, one a rank, which may kill themselves in the middle of a save.

The parent has imported everything, so that a trial costs no imports. It has no process group, and computes in one
thread: then fork is sound.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch

import lightning_gen.callbacks
import lightning_gen.data
import lightning_gen.families
import lightning_gen.nets
import lightning_gen.samplers  # noqa: F401  # imported before the forks
import run as entry
from lightning_gen.callbacks import Checkpoints, RecordLogger
from lightning_gen.runs import checkpoint_file
from tests.processes import free_port, place

CALLS = ("write", "fsync", "replace", "link", "unlink", "append")  # by which a save, or the record, changes a file
ELSEWHERE = Path("/dev/shm")  # another file system than the run folder's, where there is one


class Job:
    """`run.py WORDS` on so many ranks; what they print is in `log`.

    Args:
        words: of the command line.
        world: number of ranks.
        log: the file of their output.
        before: called in each child, with its rank, before the command.
    """

    def __init__(self, words: Sequence[str], world: int, log: Path, before: Callable[[int], None] | None = None):
        fork, port = multiprocessing.get_context("fork"), free_port()
        self.log = log
        self.ranks = [
            fork.Process(target=child, args=(list(words), rank, world, port, log, before)) for rank in range(world)
        ]
        for rank in self.ranks:
            rank.start()

    def wait(self, seconds: float) -> list[int | None]:
        """The exit codes after at most so many seconds, None of a rank that still runs."""
        end = time.monotonic() + seconds
        while any(rank.is_alive() for rank in self.ranks) and not self.lost() and time.monotonic() < end:
            time.sleep(0.01)
        return [rank.exitcode for rank in self.ranks]

    def lost(self) -> bool:
        """Whether a rank was killed."""
        return any(rank.exitcode == -signal.SIGKILL for rank in self.ranks)

    def kill(self) -> None:
        """kill -9 to all that still run, as a machine that goes down does."""
        for rank in self.ranks:
            rank.kill()
        for rank in self.ranks:
            rank.join()


def child(words: list[str], rank: int, world: int, port: int, log: Path, before: Callable | None) -> None:
    """One rank."""
    with open(log, "a", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        os.environ |= {"TMPDIR": str(ELSEWHERE)} if ELSEWHERE.is_dir() else {}
        os.environ |= place(rank, world, str(port)) if world > 1 else {}
        tempfile.tempdir = None
        torch.set_num_threads(1)
        if before is not None:
            before(rank)
        try:
            code = entry.main(words)
        except BaseException:
            traceback.print_exc()
            code = 1
        file.flush()
    os._exit(code)


class DyingInASave:
    """Kills rank 0 within its `number`-th call of one kind, in the middle of what it writes, before or after it.

    Counts the calls within saves; with `number` 0 none kills, and the counts are written at each save.

    Args:
        call: one of CALLS.
        number: which of them, from 1 on.
        after: whether the call is done first.
        counts: the file for the numbers of calls.
    """

    def __init__(self, call: str = "", number: int = 0, after: bool = False, counts: Path | None = None) -> None:
        self.call, self.number, self.after, self.counts = call, number, after, counts
        self.seen: Counter[str] = Counter()
        self.saving = 0

    def __call__(self, rank: int) -> None:
        """Replace the functions in this process."""
        if rank != 0:
            return
        for owner, name in ((Checkpoints, "save"), (Checkpoints, "save_last"), (Checkpoints, "save_best")):
            setattr(owner, name, self.within(getattr(owner, name)))
        for name in ("fsync", "replace", "link", "unlink"):
            setattr(os, name, self.dying(name, getattr(os, name), lambda *_: None))
        checkpoint_file._Hashed.write = self.dying("write", checkpoint_file._Hashed.write, half_of_the_bytes)
        RecordLogger._append = self.dying("append", self.within(RecordLogger._append), half_of_the_lines)

    def within(self, function: Callable) -> Callable:
        """The function, in which calls count."""

        def saving(*args, **kwargs):
            self.saving += 1
            try:
                return function(*args, **kwargs)
            finally:
                self.saving -= 1
                if self.counts is not None:
                    self.counts.write_text(" ".join(self.seen.elements()))

        return saving

    def dying(self, name: str, function: Callable, partly: Callable) -> Callable:
        """The function, one call of which is the last; `partly` does half of it."""

        def call(*args, **kwargs):
            if not self.saving and name != "append":
                return function(*args, **kwargs)
            self.seen[name] += 1
            if (name, self.seen[name]) != (self.call, self.number):
                return function(*args, **kwargs)
            with suppress(FileNotFoundError):
                function(*args, **kwargs) if self.after else partly(*args)
            os.kill(os.getpid(), signal.SIGKILL)

        return call


def half_of_the_bytes(file: checkpoint_file._Hashed, data: bytes) -> None:
    """The first half, on its way to the disk."""
    file.file.write(bytes(data)[: len(data) // 2])
    file.file.flush()


def half_of_the_lines(logger: RecordLogger, lines: list) -> None:
    """A line that is torn."""
    with open(logger.folder / "record.jsonl", "ab") as file:
        file.write(b'{"name": "train/lo')

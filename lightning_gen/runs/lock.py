"""The lock of a run folder: one process at a time writes into it, on a network's file system too."""

import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from lightning_gen.errors import ConfigError, Stopped
from lightning_gen.runs import signals

NAME = ".lock"
BEAT, STALE = 15.0, 120.0  # seconds between two signs of life, and without one until an owner elsewhere is dead
BRIEF = 5.0  # seconds that writing a lock may take
UNREAD = "unread"

Owner = dict[str, Any]


class Lock:
    """Held by rank 0 of a job, for the others too: a context, which raises ConfigError where another job is at work.

    The file is made by O_CREAT | O_EXCL and names its owner. One on this machine is alive while its process runs; one
    elsewhere while the file's time advances, which a thread of the owner sees to, and for which a start waits: a job
    that was killed on one node may start again on another. A dead one's lock is taken over.

    Args:
        folder: the run folder, made where it does not exist; what is left empty at the end is removed.
        rank: of this process in its job.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder, self.path, self.rank = folder, folder / NAME, rank
        self.owner: Owner = {}
        self.made: list[Path] = []
        self.seen: tuple[str, float] | None = None  # another owner, and the time of its file when it was first seen
        self.over = threading.Event()
        self.beating = threading.Lock()  # held while the thread may make the file anew

    def __enter__(self) -> "Lock":
        if self.rank == 0:
            self.acquire()
        return self

    def __exit__(self, *_: Any) -> None:
        if self.rank == 0:
            self.release()

    def acquire(self) -> None:
        """Take the lock; ConfigError that names a living owner."""
        self.owner = myself()
        try:
            self.made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
            self.folder.mkdir(parents=True, exist_ok=True)
            while not (create(self.path, self.owner) or self.take_over()):
                signals.check()
                time.sleep(0.1)
        except OSError as error:
            self.release()
            raise ConfigError(
                [f"run={self.folder} cannot be written to ({error.strerror or error}): name another folder by run="]
            ) from error
        except (ConfigError, Stopped):
            self.release()
            raise
        signals.leaving.append(self.release)
        threading.Thread(target=self.beat, daemon=True, name="lock").start()

    def take_over(self) -> bool:
        """Whether a dead owner's lock is ours now; False where it has gone; ConfigError for a living one's."""
        owner = read(self.path)
        if owner is None or (owner["token"] == UNREAD and age(self.path) < BRIEF):
            return False
        if owner["token"] != UNREAD:
            living = self.alive(owner)
            if living:
                raise ConfigError([in_use(self.folder, owner, self.owner)])
            if living is None:
                return False
        # One claim a dead owner: of two that find it dead the second waits, and then finds the first.
        claim = self.path.with_name(f"{NAME}-{owner['token']}")
        if not create(claim, self.owner):
            if age(claim) > BRIEF:
                claim.unlink(missing_ok=True)
            return False
        try:
            if (read(self.path) or {}).get("token") != owner["token"]:
                return False
            staged = self.path.with_name(f"{NAME}-{self.owner['token']}")
            create(staged, self.owner)
            os.replace(staged, self.path)
        finally:
            claim.unlink(missing_ok=True)
        return self.mine()

    def alive(self, owner: Owner) -> bool | None:
        """Whether another owner still runs; None where that is not known yet."""
        if owner.get("machine") == self.owner["machine"]:
            return owner.get("started") is not None and started(owner["pid"]) == owner["started"]
        try:
            time_of_file = self.path.stat().st_mtime
        except FileNotFoundError:
            return None
        if age(self.path) >= STALE:
            return False
        if self.seen is None or self.seen[0] != owner["token"]:
            self.seen = (owner["token"], time_of_file)
            who = f"process {owner['pid']} on {owner['host']}, which holds {self.path}"
            print(f"waiting up to {STALE:.0f} s for a sign of life of {who}", file=sys.stderr, flush=True)
        return True if time_of_file != self.seen[1] else None

    def mine(self) -> bool:
        """Whether the file names this process."""
        return (read(self.path) or {}).get("token") == self.owner["token"]

    def release(self, reason: str = "") -> None:
        """Give the lock back, and remove the folders that were made for nothing."""
        self.over.set()
        with contextlib.suppress(ValueError):
            signals.leaving.remove(self.release)
        # A file that the thread makes after this would stay; a file system that does not answer is not waited for.
        waited = self.beating.acquire(timeout=BRIEF)
        with contextlib.suppress(OSError):
            if self.mine():
                self.path.unlink()
            for folder in self.made:
                folder.rmdir()
        if waited:
            self.beating.release()

    def beat(self) -> None:
        """Advance the file's time until the release; end the process where another one owns the lock."""
        while not self.over.wait(BEAT):
            with self.beating, contextlib.suppress(OSError):  # of a server that is away for a while
                if self.over.is_set():
                    return
                if self.mine():
                    os.utime(self.path)
                elif self.folder.is_dir() and not create(self.path, self.owner) and not self.over.is_set():
                    other = read(self.path)
                    if other is not None and other["token"] not in (UNREAD, self.owner["token"]):
                        usurped(self.path, other)


def myself() -> Owner:
    """What a lock says of this process."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now().astimezone().isoformat(" ", "seconds"),
        "command": " ".join(sys.argv),
        "machine": machine(),
        "started": started(os.getpid()),
        "token": secrets.token_hex(8),
    }


def machine() -> str:
    """This boot of this kernel, and the space in which its process numbers count; a container has its own."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def started(pid: int) -> str | None:
    """When a process of this machine started, in its own clock; None for none that runs."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    try:  # no /proc: that there is such a process is all that can be known
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"


def create(path: Path, owner: Owner) -> bool:
    """Make a lock's file; False where there is one."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    try:
        os.write(handle, json.dumps(owner).encode())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    return True


def read(path: Path) -> Owner | None:
    """The owner that a lock's file names, of token UNREAD where it is being written; None where there is no file."""
    try:
        owner = json.loads(path.read_text())
        return owner | {"host": str(owner["host"]), "pid": int(owner["pid"]), "token": str(owner["token"])}
    except FileNotFoundError:
        return None
    except PermissionError:
        return {"host": "another user's host", "pid": "?", "machine": None, "token": "hidden"}
    except (OSError, ValueError, KeyError, TypeError):
        return {"host": "?", "pid": "?", "token": UNREAD}


def age(path: Path) -> float:
    """Seconds since a file was written, by the clock of its file system: a server's may differ from ours."""
    probe = path.with_name(f"{NAME}-{secrets.token_hex(8)}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def in_use(folder: Path, owner: Owner, mine: Owner) -> str:
    """The refusal of a folder in which another process is at work."""
    pid, host = owner["pid"], owner["host"]
    there = owner.get("machine") == mine["machine"]
    who = f"process {pid} on {host} has been at work in it since {owner.get('since', 'unknown')}"
    away = "" if there else f", or delete {folder / NAME} if that process is gone"
    return (
        f"run={folder} is in use: {who}; wait for its end, stop it (kill -{signal.SIGTERM.value} {pid} on {host}), "
        f"or name another folder by run={away}"
    )


def usurped(path: Path, owner: Owner) -> None:
    """End the process at once, without a save over another's."""
    sentence = f"error: {path} now belongs to process {owner['pid']} on {owner['host']}: this run ends without a save\n"
    os.write(2, sentence.encode())
    os._exit(1)

"""SIGTERM, SIGUSR1 and SIGINT of the whole process: each stops it so that the same command resumes (exit code 75).

A signal is noted. Within `interrupting` it raises Stopped where the program stands, but for training, between `hold`
and `release`, where the ranks agree at the end of each step. A second SIGINT, or a stop that takes too long outside of
training, ends the process at once: every file is written under another name first, so none is left broken.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning_gen.errors import Stopped

NUMBERS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
STOPPED = 75  # the exit code
GRACE = 20.0  # seconds from a stop to the end of the process: torchrun and SLURM kill after 30
ECHO = 1.0  # seconds in which torchrun hands on a SIGINT that the terminal has sent to the ranks, too
OVER = 255  # what the watching thread reads where signals are given back
leaving: list[Callable[[str], Any]] = []  # called before the process ends at once, with the reason of a stop
saves: list[os.PathLike] = []  # files and folders from which the same command goes on, once they are there


class _Process:
    """What is known of this process: the first signal, whether one raises Stopped now, since when it stops."""

    listens, noted, within, raises, since = False, None, False, False, None
    interrupts: list[float] = []
    wake: tuple[int, int] | None = None
    pid = 0


def listen() -> None:
    """Take the signals; in another thread than the main one, which gets none, nothing."""
    if threading.current_thread() is not threading.main_thread():
        return
    if _Process.wake is None:
        _Process.wake = os.pipe()
        os.set_blocking(_Process.wake[1], False)
        os.register_at_fork(after_in_child=_forget_wake)
        threading.Thread(target=_watch, daemon=True, name="signals").start()
    _Process.listens, _Process.pid = True, os.getpid()
    signal.set_wakeup_fd(_Process.wake[1], warn_on_full_buffer=False)
    for number in NUMBERS:
        signal.signal(number, _note)


@contextmanager
def listening() -> Iterator[None]:
    """`listen`, and give the signals back to a caller that had them."""
    if _Process.listens or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in NUMBERS}
    try:
        listen()
        yield
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        _Process.listens, _Process.noted, _Process.since = False, None, None
        _wake(OVER)


@contextmanager
def interrupting() -> Iterator[None]:
    """A signal raises Stopped within, and one that was noted before does at once."""
    report = sys.unraisablehook
    # An exception raised in a destructor is reported and lost; the next `check` raises it again.
    sys.unraisablehook = lambda lost: None if lost.exc_type is Stopped else report(lost)
    try:
        _Process.within = _Process.raises = True
        check()
        yield
    except Exception as error:
        # A library may make an error of its own of a Stopped: matplotlib's "Invalid bounding box".
        if _Process.noted is None or not _Process.raises:
            raise
        raise stopped("") from error
    finally:
        _Process.within = _Process.raises = False
        sys.unraisablehook = report


def hold() -> None:
    """From here on a signal is noted only."""
    _Process.raises = False


def release() -> None:
    """From here on a signal raises Stopped again."""
    _Process.raises = _Process.within


def received() -> str | None:
    """The name of the first signal, or None."""
    return None if _Process.noted is None else signal.Signals(_Process.noted).name


def check() -> None:
    """Raise Stopped if there was a signal."""
    if _Process.noted is not None:
        raise stopped("")


def stopped(what: str) -> Stopped:
    """The exception that stops this process, which from now on has GRACE seconds to end."""
    if _Process.since is None:
        _Process.since = time.monotonic()
        _wake(0)
    return Stopped(f"by {received() or 'a signal to another process'}{what}; the same command resumes")


def _note(number: int, frame: Any) -> None:
    if os.getpid() != _Process.pid:  # a forked worker: its parent decides, and ends it by SIGTERM
        if number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        return
    if _Process.noted is None:
        _Process.noted = number
        if _Process.raises:
            raise stopped("")


def _watch() -> None:
    """The thread that ends the process where its main thread does not, as within a long call of a library."""
    reader, wait, last = _Process.wake[0], None, "a signal"
    while True:
        ready = select.select([reader], [], [], wait)[0]
        for byte in os.read(reader, 64) if ready else b"":
            if byte in NUMBERS:
                last = signal.Signals(byte).name
                if _Process.raises and _Process.since is None:
                    _Process.since = time.monotonic()
            if byte == OVER:
                _Process.since, _Process.interrupts = None, []
            if byte == signal.SIGINT:
                _interrupted()
        since = _Process.since
        wait = None if since is None else max(0.0, since + GRACE - time.monotonic())
        if wait == 0:
            _leave(f"by {received() or last}, which took more than {GRACE:.0f} s")


def _interrupted() -> None:
    now = time.monotonic()
    if "TORCHELASTIC_RUN_ID" in os.environ and _Process.interrupts and now - _Process.interrupts[0] < ECHO:
        return
    _Process.interrupts = [*_Process.interrupts, now]
    if len(_Process.interrupts) > 1:
        _leave("at once by a second SIGINT")
    elif not _Process.raises and sys.stderr is not None and sys.stderr.isatty():
        os.write(2, b"\nSIGINT: stopping after this step; once more stops at once\n")


def _leave(how: str) -> None:
    """End the process from another thread than the main one."""
    saved = any(map(os.path.exists, saves))
    sentence = f"{how}; the same command {'goes on from the last save' if saved else 'starts anew: nothing was saved'}"
    try:
        for call in leaving:
            call(sentence)
        os.write(2, f"stopped: {sentence}\n".encode())
    finally:
        os._exit(STOPPED)


def _wake(byte: int) -> None:
    if _Process.wake is not None:
        os.write(_Process.wake[1], bytes([byte]))


def _forget_wake() -> None:
    """A forked worker's signals are none of the parent's."""
    try:
        signal.set_wakeup_fd(-1)
    except ValueError:  # forked by another thread
        os.close(_Process.wake[1])

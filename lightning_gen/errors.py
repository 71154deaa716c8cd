"""What ends a run: wrong input, a signal, a number that is not finite; and how it is said in one sentence."""

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

TRACEBACK = "LIGHTNING_GEN_TRACEBACK"  # in the environment: errors keep their traceback
OURS = (ValueError, TypeError, FileNotFoundError)  # messages that are a sentence as they are
WRITE = "choose another folder, or change its permissions"
REMEDIES = {
    errno.ENOSPC: "free some space, or choose a folder on another disk; the same command then resumes",
    errno.EDQUOT: "free some space, or choose a folder on another disk; the same command then resumes",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), WRITE),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), "a folder is needed and a file is there: choose another name"),
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "it was moved or deleted: restore it, or correct the name",
    errno.EADDRINUSE: "another process uses the port: choose another one (MASTER_PORT, torchrun --master-port)",
}


class ConfigError(Exception):
    """Everything that is wrong with what the user wrote, a sentence each.

    Args:
        faults: the sentences.
        run: the run folder of the start that is refused, where it is known.
    """

    def __init__(self, faults: Sequence[str], run: Path | None = None) -> None:
        super().__init__("\n".join(faults))
        self.faults, self.run = list(faults), run


class NonFinite(RuntimeError):
    """A loss, gradient, sample or feature is NaN or infinite; the message names quantity, step and rank."""


class Diverged(NonFinite):
    """Finite, and yet where it cannot belong; the message names quantity, step and rank."""


class RunDeleted(RuntimeError):
    """A file that the run writes to is gone; the message names it."""


class Stopped(BaseException):
    """A signal asked the run to stop; everything is saved and the same command resumes (exit code 75).

    No Exception, so that no library takes it for a failure of its own.
    """


class Unreadable(ValueError):
    """A file of the data that cannot be read: damaged, not permitted, or gone; the message names it."""


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def sentence(error: BaseException) -> str:
    """What an exception says, in one line: of the operating system's and of libraries' own with a remedy."""
    system = next((e for e in chain(error) if isinstance(e, OSError) and e.errno is not None), None)
    ours = isinstance(error, OURS) or (isinstance(error, OSError) and error.errno is None)
    if isinstance(error, Unreadable) or (ours and system is not error):
        return " ".join(str(error).split()) or type(error).__name__
    if system is not None:
        said = (system.strerror or str(system)).lower()
        file = f"{system.filename}: " if system.filename else ""
        return f"{file}{said}: {REMEDIES.get(system.errno, 'mend it, and give the same command again')}"
    if out_of_memory(error):
        return f"the memory is not enough ({first_line(error)}): lower data.batch_size, or the network's size"
    if type(error).__name__ in ("MisconfigurationException", "InstantiationException", "HydraException"):
        return " ".join(str(error).split())
    return f"{first_line(error)} ({type(error).__name__}; {TRACEBACK}=1 shows where)"


def first_line(error: BaseException) -> str:
    """The first line of a message, with the next where it ends in a colon, at most 300 characters of them."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[: 1 + lines[0].endswith(":")])[:300] if lines else "an error without a message"


def out_of_memory(error: BaseException) -> bool:
    """Whether the host's or the device's memory was not enough."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def from_outside(error: BaseException) -> bool:
    """Whether the world around a run has failed it, and not the program: disk, permission, a data file, memory."""
    return any(isinstance(e, OSError | Unreadable) or out_of_memory(e) for e in chain(error))

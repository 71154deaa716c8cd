"""Output that nobody reads any more, as of `run.py | head`: the run goes on without it."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class Lasting:
    """A text stream whose descriptor, once it cannot be written to, writes into nothing.

    Args:
        stream: the stream; None for one that was closed before the start.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = open(os.devnull, "w") if stream is None else stream  # noqa: SIM115  # stands for stdout itself

    def write(self, text: str) -> int:
        """Write, or not."""
        return self._attempt(self.stream.write, text) or 0

    def flush(self) -> None:
        """Hand on, or not."""
        self._attempt(self.stream.flush)

    def _attempt(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except OSError:
            # What is still in its buffer is written when the process ends, which must not fail then.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, self.stream.fileno())
                os.close(nothing)
            return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """Within, no closed stdout or stderr ends the run."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Lasting(sys.stdout), Lasting(sys.stderr)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before

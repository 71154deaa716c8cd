"""What ends a run: wrong input, a signal, a number that is not finite."""

from collections.abc import Sequence


class ConfigError(Exception):
    """Everything that is wrong with what the user wrote, a sentence each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)


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

"""What ends a run besides wrong input."""


class NonFinite(RuntimeError):
    """A loss, gradient, sample or feature is NaN or infinite; the message names quantity, step and rank."""


class Diverged(NonFinite):
    """Finite, and yet where it cannot belong; the message names quantity, step and rank."""


class Stopped(Exception):
    """A signal asked the run to stop; everything is saved and the same command resumes (exit code 75)."""

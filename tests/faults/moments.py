"""run.py, which says on stdout where it is: `at MOMENT`, once for each. Run as python -m tests.faults.moments WORDS."""

import functools
import sys

from lightning_gen.runs import signals

MOMENTS = ("start", "config", "imports", "session", "training", "step", "validation", "sampling", "metrics", "report")


def say(moment: str) -> None:
    """Say where the process is, in one write: the lines of ranks that share a pipe stay whole."""
    print(f"at {moment}\n", end="", flush=True)


def before(owner: object, name: str, moment: str, number: int = 1) -> None:
    """Say `moment` before the `number`-th call of a function."""
    original, calls = getattr(owner, name), []

    @functools.wraps(original)
    def call(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == number:
            say(moment)
        return original(*arguments, **options)

    setattr(owner, name, call)


def heavy() -> None:
    """What can be found only where the heavy modules are imported."""
    from lightning_gen.callbacks import Measuring, Quality
    from lightning_gen.families import GenerativeModule
    from lightning_gen.families.optimisation import Optimisation
    from lightning_gen.results import report

    before(GenerativeModule, "on_train_start", "training")
    before(Optimisation, "update", "step", 8)
    before(GenerativeModule, "validation_step", "validation")
    before(Measuring, "_blocks", "sampling")
    before(Quality, "results", "metrics")
    before(report, "write_report", "report")


def main(words: list[str]) -> int:
    """The command; the exit code."""
    signals.listen()
    say("start")
    import run
    from lightning_gen.stages import command

    before(command, "job", "config")
    before(command, "quieten", "imports")
    session = command.Session

    def made(*arguments: object) -> object:
        heavy()
        say("session")
        return session(*arguments)

    command.Session = made
    return run.main(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

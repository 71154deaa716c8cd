"""The command `lightning-gen`, which is `python run.py` too; README.md says what it takes.

Exit codes: 0 done, 2 wrong input or config, 75 stopped so that the same command resumes, 1 anything else.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_gen.config.compose import launch
from lightning_gen.config.instantiate import refusing
from lightning_gen.errors import TRACEBACK, ConfigError, NonFinite, Stopped, from_outside, sentence
from lightning_gen.runs.faults import comparison_faults, folder_faults, samples_fault
from lightning_gen.runs.folder import RunFolder
from lightning_gen.stages.compare import compare
from lightning_gen.stages.export import export
from lightning_gen.stages.quiet import quieten
from lightning_gen.stages.session import Session

CONFIGS = Path(__file__).resolve().parents[1] / "experiments"


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for, this program's own by default; the exit code."""
    try:
        return launch(start, CONFIGS, sys.argv[1:] if argv is None else argv, report)
    except (Exception, Stopped) as error:
        code = report(error)
        if code is None:
            raise
        return code


def report(error: BaseException) -> int | None:
    """Say what ended a job, a sentence a fault; its exit code, or None for an error of the program itself."""
    if isinstance(error, ConfigError):
        print(*(f"error: {fault}" for fault in error.faults), sep="\n", file=sys.stderr)
        return 2
    if isinstance(error, Stopped):
        print(f"stopped: {error}", file=sys.stderr)
        return 75
    if isinstance(error, NonFinite):
        print(f"error: {error}", file=sys.stderr)
        return 1
    if from_outside(error) and not os.environ.get(TRACEBACK):
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 1
    return None


def start(config: dict[str, Any], path: Path) -> None:
    """Look at the folders that a config names, then do its job."""
    job(config, refusing(examined, config, path))


def examined(config: dict[str, Any], path: Path) -> RunFolder:
    """The run folder, after a look at all folders that a config names; ConfigError with what is wrong."""
    faults = comparison_faults(config["runs"]) if config["stage"] == "compare" else []
    faults += [fault for name in [config.get("samples")] if name and (fault := samples_fault(name))]
    faults += folder_faults(path, config["stage"])
    if faults:
        raise ConfigError(faults)
    return RunFolder.of(path)


def job(config: dict[str, Any], folder: RunFolder) -> None:
    """One job of a sweep, or the only one: fit (then evaluate), evaluate, sample, export or compare."""
    if config["stage"] == "compare":
        return compare(config, folder)
    if config["fresh"]:
        folder = refusing(folder.fresh)
    if config["stage"] == "export":
        return export(folder)
    quieten()
    session = refusing(Session, config, folder)
    if config["stage"] == "sample":
        return session.sample()
    if config["stage"] == "fit":
        session.fit()
    session.evaluate()

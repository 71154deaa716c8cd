"""The command `lightning-gen`, which is `python run.py` too; README.md says what it takes.

Exit codes: 0 done, 2 wrong input or config, 75 stopped so that the same command resumes, 1 anything else.
"""

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning_gen import __version__, garbage
from lightning_gen.config.command_line.hydra_keys import sweeper
from lightning_gen.config.command_line.request import Request
from lightning_gen.config.command_line.sweep import tasks
from lightning_gen.config.command_line.words import CONFIGS, Words
from lightning_gen.config.compose import launch
from lightning_gen.config.instantiate import Maker, build, import_extensions, refusing
from lightning_gen.errors import TRACEBACK, ConfigError, NonFinite, RunDeleted, Stopped, from_outside, sentence
from lightning_gen.runs import signals
from lightning_gen.runs.devices import place, process_rank
from lightning_gen.runs.faults import absent_data, comparison_faults, folder_faults, samples_fault
from lightning_gen.runs.folder import RunFolder
from lightning_gen.runs.lock import Lock
from lightning_gen.stages.array import of_launcher, submit
from lightning_gen.stages.check import check
from lightning_gen.stages.compare import compare
from lightning_gen.stages.estimate import estimate, rehearsal
from lightning_gen.stages.export import export
from lightning_gen.stages.loggers import close, send_checkpoints
from lightning_gen.stages.objective import better, objective
from lightning_gen.stages.output import lasting_output
from lightning_gen.stages.quiet import quieten
from lightning_gen.stages.session import Session, begins, check_data, introduced
from lightning_gen.stages.slurm import slurm
from lightning_gen.stages.threads import chosen_threads


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for, this program's own by default; the exit code."""
    with signals.listening(), lasting_output():
        try:
            return serve(sys.argv[1:] if argv is None else argv)
        except (Exception, Stopped) as error:
            if (code := report(error)) is None:
                raise
            return code


def serve(words: Sequence[str]) -> int:
    """Say the version, write an sbatch file, check a class, submit a sweep, or launch what is asked; the exit code."""
    if words[:1] == ["--version"]:
        print(f"lightning-gen {__version__}")
        return 0
    if words[:1] == ["slurm"]:
        slurm(words[1:])
        return 0
    if words[:1] == ["check"]:
        return check(words[1:])
    if any(map(of_launcher, words)):
        return submit(words, CONFIGS, surveyor())
    return launch(start, CONFIGS, words, reported, survey, better)


def survey(words: Words, asked: Request) -> None:
    """Look at a sweep: at its jobs, where their values are known; ConfigError with what is wrong."""
    if (chosen := sweeper(asked.hydra)) == "basic":
        tasks(words, asked, surveyor())
    elif (world := refusing(place).world) > 1:
        raise ConfigError(
            [f"hydra/sweeper={chosen} was started as {world} processes, which would all choose: start one"]
        )


def report(error: BaseException) -> int | None:
    """Say what ended a job, a sentence a fault; its exit code, or None for an error of the program itself."""
    if isinstance(error, ConfigError):
        if error.run is not None:
            RunFolder.of(error.run).forget_stop()
        print(*(f"error: {fault}" for fault in error.faults), sep="\n", file=sys.stderr)
        return 2
    if isinstance(error, Stopped):
        print(f"stopped: {error}", file=sys.stderr)
        return signals.STOPPED
    if isinstance(error, NonFinite | RunDeleted):
        print(f"error: {error}", file=sys.stderr)
        return 1
    if from_outside(error) and not os.environ.get(TRACEBACK):
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 1
    return None


def reported(error: BaseException) -> int:
    """Say what ended a job of a sweep, with a traceback where it is an error of the program itself; its exit code."""
    if (code := report(error)) is not None:
        return code
    traceback.print_exception(error)
    return 1


def start(config: dict[str, Any], path: Path) -> float | None:
    """Look at the folders that a config names, then do its job; the number that it asks for by `optimize`."""
    return job(config, refusing(examined, config, path))


def examined(config: dict[str, Any], path: Path) -> RunFolder:
    """The run folder, after a look at all folders that a config names; ConfigError with what is wrong."""
    faults = comparison_faults(config["runs"]) if config["stage"] == "compare" else []
    faults += [fault for name in [config.get("samples")] if name and (fault := samples_fault(name))]
    faults += folder_faults(path, config["stage"], config["stage"] == "evaluate" and bool(config.get("samples")))
    if faults:
        raise ConfigError(faults, path)
    return RunFolder.of(path)


def surveyor() -> Callable[[dict[str, Any], Path], None]:
    """A look at a sweep's jobs before the first one begins: at their folders, and at the files of their data."""
    known: dict[str, list[str]] = {}  # data -> faults: jobs that share them cost one look

    def look(config: dict[str, Any], path: Path) -> None:
        examined(config, path)
        key = json.dumps([config.get("data"), config.get("extensions")], sort_keys=True)
        if config["stage"] in ("fit", "evaluate", "compress") and key not in known:
            known[key] = data_faults(config)
        if faults := known.get(key):
            raise ConfigError(faults, path)

    return look


def data_faults(config: dict[str, Any]) -> list[str]:
    """What a look at a config's data finds."""
    quieten()
    make = Maker()
    make(import_extensions, config)
    if not make.faults and (data := make(build, config["data"], "data")) is not None:
        make(data.check_files)
    return make.faults


def job(config: dict[str, Any], folder: RunFolder) -> float | None:
    """One job of a sweep, or the only one, alone in its folder; where it is stopped, the folder says so.

    Returns the number that `optimize` names.
    """
    if absent := [*absent_data(config)]:
        raise ConfigError(absent, folder.path)
    if config["stage"] in ("compare", "estimate"):
        with signals.interrupting():
            return compare(config, folder) if config["stage"] == "compare" else estimated(config)
    if config["fresh"]:
        folder = refusing(folder.fresh)
    with Lock(folder.path, refusing(process_rank)) as lock, folder.stop_note(lock.rank), signals.interrupting():
        if lock.rank == 0:
            folder.remove_torn()
        return work(config, folder)


def work(config: dict[str, Any], folder: RunFolder) -> float | None:
    """Fit (then evaluate), evaluate, sample, edit, export, compress or decompress; the number that `optimize` names."""
    if config["stage"] == "export":
        garbage.resume()
        return export(config, folder)
    quieten()
    session = refusing(Session, config, folder)
    if begins(session):
        refusing(check_data, session)
    from lightning_gen.stages.compilation import choose_compilation  # which imports torch

    with chosen_threads(session):
        choose_compilation(session)
        return used(session, config, folder)


def estimated(config: dict[str, Any]) -> None:
    """stage=estimate: what is chosen for the data, the number of threads among it, and the estimate."""
    if refusing(place).world > 1:
        raise ConfigError(["stage=estimate measures one process: start it without torchrun or srun"])
    quieten()
    with tempfile.TemporaryDirectory() as scratch:
        session = rehearsal(config, Path(scratch))
        refusing(check_data, session)
        from lightning_gen.stages.compilation import check_said  # which imports torch

        check_said(session)
        print(introduced(session))
        with chosen_threads(session):
            estimate(config, session.data)


def used(session: Session, config: dict[str, Any], folder: RunFolder) -> float | None:
    """What the stage does with a session; the number that `optimize` names."""
    if config["stage"] in ("sample", "edit", "compress", "decompress"):
        return getattr(session, config["stage"])()
    if config["stage"] == "fit":
        if begins(session) and session.data.chosen():
            estimate(config, session.data)
        session.fit()
        send_checkpoints(session)
        signals.check()
    session.evaluate()
    close(session.loggers)
    # Rank 0 has written it.
    return objective(config["optimize"], folder) if config["optimize"] and process_rank() == 0 else None

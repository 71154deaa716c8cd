"""From the command line to a config: composed by Hydra, checked whole, handed on. What is wrong is found here, before
any heavy import."""

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from lightning_gen.config.aliases import renamed
from lightning_gen.config.allow import allowing, declared, used
from lightning_gen.config.command_line.help import page
from lightning_gen.config.command_line.hydra_keys import sweeper, sweeper_defaults
from lightning_gen.config.command_line.request import Request, request
from lightning_gen.config.command_line.texts import hydras
from lightning_gen.config.command_line.words import SWEEP, Words, split
from lightning_gen.config.faults import check, own, resolvers
from lightning_gen.config.instantiate import refusing
from lightning_gen.config.replacing import without_replaced
from lightning_gen.errors import TRACEBACK, ConfigError, NonFinite, RunDeleted, sentence

Config = dict[str, Any]
LONGEST = 200  # bytes of a folder's name: a file system takes 255, and files beside it add to it
# Hydra leaves a file in a sweep's folder and writes logs; ours are the run folders.
QUIET = ("hydra.run.dir=.", "hydra.output_subdir=null", "hydra.sweep.subdir=.")
SILENT = ("hydra/job_logging=none", "hydra/hydra_logging=none")
LOGGED = ("hydra/job_logging=stdout",)  # for hydra.verbose: on the screen, and in no file


class Ended(NamedTuple):
    """How a job of a sweep has ended: its run folder, its objective, its exit code and what has ended it."""

    folder: Path | None
    value: float | None
    code: int = 0
    said: str = ""


class Leave(BaseException):
    """Carries a job's exception past Hydra, which would print a report of its own."""


class Failed(Exception):
    """Tells a sweeper of Hydra's that a job has failed, which has been said."""


def launch(
    task: Callable[[Config, Path], float | None],
    configs: Path,
    argv: Sequence[str],
    report: Callable[[Exception], int] = lambda error: 1,
    look: Callable[[Words, Request], Any] = lambda words, asked: None,
    better: Callable[[str], str | None] = lambda name: None,
) -> int:
    """Compose the config that argv asks for (each of them, in a sweep), check it, and hand it and its run folder on.

    A sweep is looked at before, as a whole, by `look`; one whose values a sweeper chooses ends at a first job that is
    refused. A job that fails does not stop the others.
    Returns 0, or where jobs of a sweep have failed, which `report` has said, 1, or 2 where all were refused.
    Raises ConfigError with all faults of the command line, or of the config.

    Args:
        task: does a job; what it returns is the objective, for Hydra's sweeper.
        configs: the folder of our experiments.
        argv: the command line.
        report: says what has ended a job; its exit code.
        look: looks at a sweep.
        better: whether a lower or a higher value of a number of this name is better.
    """
    from omegaconf import DictConfig

    words = refusing(split, argv, configs)
    ended: list[Ended] = []
    with allowing(words.allow):
        asked = refusing(request, words) if words.composes else Request(words.name, words.overrides, "", [])
        listed = sweeper(asked.hydra) == "basic"
        if asked.faults and (words.helps or not words.running or not listed):
            raise ConfigError(asked.faults)
        sweep = words.sweeps and words.running
        direction = better(asked.optimize) if sweep and asked.optimize and not asked.faults else None

        def job(composed: DictConfig) -> float | None:
            folder = None
            try:
                composed = composed if listed else refusing(whole, asked)
                config, folder = refusing(checked, composed, asked, words)
                value = task(config, folder)
            except Exception as error:
                # Faults of the command line are those of all jobs.
                if not words.sweeps or asked.faults or (isinstance(error, ConfigError) and not (listed or ended)):
                    raise Leave from error
                ours = isinstance(error, ConfigError | NonFinite | RunDeleted)
                said = str(error).splitlines()[0] if ours else sentence(error)
                ended.append(Ended(folder, None, report(error), said))
                if listed:
                    return None
                raise Failed(ended[-1].said) from None
            ended.append(Ended(folder, value))
            return value

        if words.helps:
            compose(lambda composed: print(explained(composed, asked, words)), words, asked)
            return 0
        if sweep:
            look(words, asked)
        try:
            compose(job, words, asked, sweeper_defaults(asked.hydra, direction), (Failed,))
        except Failed:
            pass  # of a sweeper that stops at a job that has failed
        except ConfigError as error:
            if not any(each.code for each in ended):
                raise
            report(error)  # of a sweeper that has no result, since all jobs have failed
    return closing(ended, asked.optimize, direction) if words.sweeps else 0


def checked(composed: Any, asked: Request, words: Words) -> tuple[Config, Path]:
    """A job's config and run folder; ConfigError with all that is wrong."""
    from hydra.core.hydra_config import HydraConfig

    run = composed.get("run")
    if run is not None and (on_its_run := asked.on(str(run))) is not asked:
        composed, asked = whole(on_its_run), on_its_run
    config = without_replaced(resolved(composed, asked.faults), asked.overrides)
    experiment = HydraConfig.get().runtime.choices.get("experiment")
    if faults := [*asked.faults, *named(own(check(config, experiment), unresolved(composed)), asked)]:
        known = isinstance(config.get("run"), str | None)
        raise ConfigError(faults, run_folder(config, asked, words) if known else None)
    return config, run_folder(config, asked, words)


def explained(composed: Any, asked: Request, words: Words) -> str:
    """What --help says of a composed config."""
    from hydra.core.hydra_config import HydraConfig

    config = without_replaced(resolved(composed, asked.faults), asked.overrides)
    return page(config, words.options(), words.folders[0] / "config.yaml", HydraConfig.get().help.header)


def closing(ended: Sequence[Ended], objective: str | None, better: str | None) -> int:
    """Say how a sweep has ended: its objective in each job, the best first, and what has failed; the exit code."""
    done = [job for job in ended if job.value is not None]
    if done:
        print(f"{objective}, {'best first' if better else 'in order'}:")
    for job in sorted(done, key=lambda job: job.value, reverse=better == "higher") if better else done:
        print(f"  {job.value:<12.6g} {job.folder}")
    failed = [job for job in ended if job.code]
    if failed:
        print(f"error: {len(failed)} of {len(ended)} jobs have failed:", file=sys.stderr)
    for job in failed:
        print(f"  {job.folder or 'a job without a folder'}: exit code {job.code}: {job.said}", file=sys.stderr)
    refused = failed and all(job.code == 2 for job in ended)  # none has begun
    return 2 if refused else 1 if failed else 0


def named(faults: Sequence[str], asked: Request) -> list[str]:
    """The faults, with the file of a stored config before those of a key that the command line does not set."""

    def typed(key: str) -> bool:
        return any(f"{key}.".startswith(f"{word}.") or f"{word}.".startswith(f"{key}.") for word in given)

    given = {key_of(word) for word in asked.overrides}
    return [fault if not asked.stored or typed(fault.split()[0]) else f"{asked.stored}: {fault}" for fault in faults]


def whole(asked: Request) -> Any:
    """The config of a job whose sweeper knows what is swept alone: Optuna's hands null on as the text None."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    own = differing(HydraConfig.get().overrides.task, asked)
    fixed = [word for word in asked.overrides if key_of(word) not in asked.swept]
    composed = hydra.compose(asked.primary, [*fixed, *own], return_hydra_config=True)
    HydraConfig.instance().set_config(composed)
    return OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])


def to_sweeper(asked: Request) -> list[str]:
    """The overrides that a sweeper is given."""
    if sweeper(asked.hydra) == "basic":
        return asked.overrides
    wanted = {*asked.swept, "experiment"}  # whose file may set the sweeper
    return [word for word in asked.overrides if key_of(word) in wanted or key_of(word).startswith("hydra")]


def compose(
    job: Callable,
    words: Words,
    asked: Request,
    more: Sequence[str] = (),
    expected: tuple[type[Exception], ...] = (),
) -> None:
    """Let Hydra compose what is asked for and call the job.

    Args:
        job: what is called with each config.
        words: the command line.
        asked: what Hydra is asked for.
        more: overrides, of Hydra's own keys.
        expected: raised as they are.
    """
    import hydra
    from hydra._internal.hydra import Hydra

    scratch = TemporaryDirectory()
    quiet = [*QUIET, f"hydra.sweep.dir={scratch.name}", *more] if words.running else []
    verbose = str(asked.hydra.get("hydra.verbose", False)).lower() != "false"
    quiet += LOGGED if verbose else SILENT if words.running else ()
    ours, *theirs = (str(folder.resolve()) for folder in words.folders)
    flags = [
        *(flag for flag in words.flags if not (words.helps and flag in SWEEP)),
        *(f"--config-dir={folder}" for folder in theirs),
    ]
    # Hydra's own reporter exits 1 with half a traceback; with this it lets the exception through to us.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    before, sys.argv = sys.argv, [sys.argv[0], *flags, *to_sweeper(asked), *quiet]
    find = Hydra.get_mode
    try:
        # It would compose the config once more, for hydra.mode, which no config may set: -m starts a sweep.
        Hydra.get_mode = lambda *_, **__: None
        hydra.main(config_path=ours, config_name=asked.primary, version_base="1.3")(job)()
    except Leave as leave:
        raise leave.__cause__ from None
    except expected:
        raise
    except Exception as error:  # of Hydra itself: a file that is no YAML, an override that does not fit
        if os.environ.get(TRACEBACK):
            raise
        raise ConfigError([*asked.faults, hydras(error)]) from None
    finally:
        sys.argv, Hydra.get_mode = before, find
        scratch.cleanup()


def resolved(composed: Any, early: Sequence[str]) -> Config:
    """The composed config as plain values, under present names, with the extensions that it uses."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if faults := list(resolvers(unresolved(composed))):
        raise ConfigError([*early, *faults])
    try:
        config = renamed(OmegaConf.to_container(composed, resolve=True))
    except OmegaConfBaseException as error:
        raise ConfigError([*early, " ".join(str(error).split())]) from None
    if found := used(config) - {*declared(config)}:
        config["extensions"] = [*declared(config), *sorted(found)]
    return config


def unresolved(composed: Any) -> Any:
    """The composed config with its ${key} as they are written."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(composed, resolve=False)


def run_folder(config: Config, asked: Request, words: Words) -> Path:
    """Where the run lives: as it is named, else named for the experiment, and in a sweep for what differs.

    An agent of W&B starts each run of a sweep by one command, and names it in WANDB_RUN_ID.
    """
    from hydra.core.hydra_config import HydraConfig

    hydra_config = HydraConfig.get()
    of_agent = [os.environ.get("WANDB_RUN_ID")] if os.environ.get("WANDB_SWEEP_ID") else []
    run = config.get("run") or asked.run
    run = run or "-".join([f"outputs/{hydra_config.runtime.choices['experiment']}", *filter(None, of_agent)])
    if not words.sweeps:
        return apart(Path(run), config)
    # The experiment names the folder already, where it is not named by hand.
    named = {"stage", "run"} | (set() if config.get("run") else {"experiment"})
    own = [word for word in differing(hydra_config.overrides.task, asked) if key_of(word) not in named]
    path = Path("-".join([run, *(word.lstrip("+").replace("/", "_") for word in own)]))
    if len(os.fsencode(path.name)) > LONGEST:
        digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
        path = path.with_name(f"{os.fsencode(path.name)[: LONGEST - 9].decode(errors='ignore')}-{digest}")
    return apart(path, config)


def differing(overrides: Sequence[str], asked: Request) -> list[str]:
    """Those of a job's overrides that are its own: the others are given to all jobs of the sweep."""
    given = {key_of(word) for word in asked.overrides} - {*asked.swept}
    return [word for word in overrides if key_of(word) not in given]


def key_of(word: str) -> str:
    """What an override sets."""
    return word.partition("=")[0].lstrip("+~")


def apart(folder: Path, config: Config) -> Path:
    """The folder, or one beside it for what is no training of the model: NAME-debug, NAME-overfit."""
    trainer = config.get("trainer")
    if config.get("stage") != "fit" or not isinstance(trainer, dict):
        return folder
    kinds = {"debug": trainer.get("fast_dev_run"), "overfit": trainer.get("overfit_batches")}
    name = next((name for name, wanted in kinds.items() if wanted), None)
    return folder if name is None or folder.name.endswith(f"-{name}") else folder.parent / f"{folder.name}-{name}"

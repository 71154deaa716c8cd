"""From the command line to a config: composed by Hydra, checked whole, handed on. What is wrong is found here, before
any heavy import."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning_gen.config.aliases import renamed
from lightning_gen.config.allow import allowing, declared, used
from lightning_gen.config.command_line import Request, Words, request, split, swept
from lightning_gen.config.faults import check, own, resolvers
from lightning_gen.config.instantiate import refusing
from lightning_gen.config.replacing import without_replaced
from lightning_gen.errors import TRACEBACK, ConfigError, sentence

Config = dict[str, Any]
# Hydra leaves a file in a sweep's folder and writes logs; ours are the run folders.
QUIET = ("hydra.run.dir=.", "hydra.output_subdir=null", "hydra.sweep.subdir=.")
QUIET += ("hydra/job_logging=none", "hydra/hydra_logging=none")


class Leave(BaseException):
    """Carries a job's exception past Hydra, which would print a report of its own."""


def launch(
    task: Callable[[Config, Path], None],
    configs: Path,
    argv: Sequence[str],
    report: Callable[[Exception], int | None] = lambda error: None,
    look: Callable[[Words, Request], Any] = lambda words, asked: None,
) -> int:
    """Compose the config that argv asks for (each of them, in a sweep), check it, and hand it and its run folder on.

    A sweep is looked at before, as a whole, by `look`.
    Returns 0, or the exit code of a sweep's first failed job: `report` says what ended it, and the next one starts.
    Raises ConfigError with all faults of the command line, or of the config.
    """
    from omegaconf import DictConfig

    words = refusing(split, argv, configs)
    codes: list[int] = []
    with allowing(words.allow):
        asked = refusing(request, words) if words.running else Request("config", words.overrides, "", [])

        def job(composed: DictConfig) -> None:
            try:
                task(*refusing(checked, composed, asked, words))
            except Exception as error:
                # Faults of the command line are those of all jobs.
                code = None if not words.sweeps or asked.faults else report(error)
                if code is None:
                    raise Leave from error
                codes.append(code)

        if words.sweeps and words.running:
            look(words, asked)
        compose(job, words, asked)
    return codes[0] if codes else 0


def checked(composed: Any, asked: Request, words: Words) -> tuple[Config, Path]:
    """A job's config and run folder; ConfigError with all that is wrong."""
    from hydra.core.hydra_config import HydraConfig

    config = without_replaced(resolved(composed, asked.faults), asked.overrides)
    experiment = HydraConfig.get().runtime.choices.get("experiment")
    if faults := [*asked.faults, *own(check(config, experiment), unresolved(composed))]:
        named = isinstance(config.get("run"), str | None)
        raise ConfigError(faults, run_folder(config, asked, words) if named else None)
    return config, run_folder(config, asked, words)


def compose(
    job: Callable,
    words: Words,
    asked: Request,
    launcher: Sequence[str] = (),
    expected: tuple[type[Exception], ...] = (),
) -> None:
    """Let Hydra compose what is asked for and call the job.

    Args:
        job: what is called with each config.
        words: the command line.
        asked: what Hydra is asked for.
        launcher: overrides that choose another of Hydra's launchers.
        expected: of that launcher, raised as they are.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    scratch = TemporaryDirectory()
    quiet = [*QUIET, f"hydra.sweep.dir={scratch.name}", *launcher] if words.running else []
    ours, *theirs = (str(folder.resolve()) for folder in words.folders)
    flags = [*words.flags, *(f"--config-dir={folder}" for folder in theirs)]
    # Hydra's own reporter exits 1 with half a traceback; with this it lets the exception through to us.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    before, sys.argv = sys.argv, [sys.argv[0], *flags, *asked.overrides, *quiet]
    try:
        hydra.main(config_path=ours, config_name=asked.primary, version_base="1.3")(job)()
    except Leave as leave:
        raise leave.__cause__ from None
    except expected:
        raise
    except Exception as error:  # of Hydra itself: a file that is no YAML, an override that does not fit
        if os.environ.get(TRACEBACK):
            raise
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
        said = isinstance(cause, HydraException | OmegaConfBaseException | YAMLError)
        raise ConfigError([*asked.faults, " ".join(str(cause).split()) if said else sentence(cause)]) from None
    finally:
        sys.argv = before
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
    if words.sweeps:
        task = hydra_config.overrides.task
        several = [word for word in task if word.lstrip("+").partition("=")[0] in asked.swept]
        name = "-".join([run, *swept(several if config.get("run") else task)])
        # 255 bytes are the longest name that a file system takes.
        run = name if len(os.fsencode(Path(name).name)) <= 200 else "-".join([run, *swept(several)])
    return apart(Path(run), config)


def apart(folder: Path, config: Config) -> Path:
    """The folder, or one beside it for what is no training of the model: NAME-debug, NAME-overfit."""
    trainer = config.get("trainer")
    if config.get("stage") != "fit" or not isinstance(trainer, dict):
        return folder
    kinds = {"debug": trainer.get("fast_dev_run"), "overfit": trainer.get("overfit_batches")}
    name = next((name for name, wanted in kinds.items() if wanted), None)
    return folder if name is None or folder.name.endswith(f"-{name}") else folder.parent / f"{folder.name}-{name}"

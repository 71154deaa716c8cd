"""The jobs of a sweep, one by one, as command lines of their own; and a launcher of Hydra's that starts them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning_gen import garbage
from lightning_gen.config.command_line.request import Request
from lightning_gen.config.command_line.texts import in_quotes
from lightning_gen.config.command_line.words import Words
from lightning_gen.config.compose import checked, compose, differing, key_of
from lightning_gen.config.instantiate import refusing
from lightning_gen.errors import ConfigError


class Task(NamedTuple):
    """One job of a sweep: the words of its command line, and its run folder."""

    words: list[str]
    folder: Path


def tasks(words: Words, asked: Request, look: Callable[[dict[str, Any], Path], Any]) -> list[Task]:
    """The sweep's jobs; ConfigError with all that is wrong with any of them, and with which.

    Args:
        words: the command line.
        asked: what Hydra is asked for.
        look: what refuses a config and its run folder.
    """
    from hydra.core.hydra_config import HydraConfig

    found: list[Task] = []
    said: dict[str, list[str]] = {}  # fault -> the jobs that have it, by what is their own
    jobs: list[str] = []

    def job(composed: Any) -> None:
        own = differing(HydraConfig.get().overrides.task, asked)
        jobs.append(" ".join(word.lstrip("+") for word in own))
        try:
            config, folder = refusing(checked, composed, asked, words)
            refusing(look, config, folder)
        except ConfigError as error:
            for fault in error.faults:
                said.setdefault(fault, []).append(jobs[-1])
            return
        flags = [f"--allow={package}" for package in words.allow]
        flags += [f"--config-dir={configs.resolve()}" for configs in words.folders[1:]]
        flags += [f"--config-name={words.name}"] * (words.name != "config")
        kept = [word for word in words.overrides if key_of(word) not in ("run", *map(key_of, own))]
        kept += [word for word in own if key_of(word) != "run"]
        found.append(Task([*flags, *kept, f"run={folder}"], folder))

    garbage.resume()  # each job's config has cycles and is not needed after it
    compose(job, words, asked)
    faults = [fault if len(those) == len(jobs) else f"{fault} ({named(those)})" for fault, those in said.items()]
    folders = [task.folder.resolve() for task in found]
    faults += [
        f"run={folder} is the folder of {folders.count(folder)} jobs of the sweep: sweep values whose names differ"
        for folder in dict.fromkeys(folders)
        if folders.count(folder) > 1
    ]
    if faults:
        raise ConfigError(faults)
    return found


def named(jobs: Sequence[str]) -> str:
    """The first of a sweep's jobs that have a fault, and how many others do."""
    return f"in the job {jobs[0]}" + (f" and {len(jobs) - 1} more" if len(jobs) > 1 else "")


def launch_by(
    plugin: Mapping[str, Any], folder: Path, call: Callable[[int], Any], words: Words, asked: Request
) -> None:
    """Let a launcher of Hydra's call `call` with the number of each job, elsewhere; RuntimeErrors are its own.

    Args:
        plugin: the launcher's config.
        folder: where Hydra writes.
        call: what it pickles, and calls.
        words: the command line.
        asked: what Hydra is asked for.
    """
    from hydra.core.config_store import ConfigStore
    from hydra.core.hydra_config import HydraConfig

    ConfigStore.instance().store(group="hydra/launcher", name="chosen", node=dict(plugin))
    chosen = ("hydra/launcher=chosen", f"hydra.sweep.dir={in_quotes(str(folder))}")
    compose(lambda composed: call(HydraConfig.get().job.num), words, asked, chosen, (RuntimeError,))

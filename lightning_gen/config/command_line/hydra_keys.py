"""Hydra's own keys, as hydra/sweeper, its flags and folders of configs: which do here what they do in Hydra."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning_gen.options import choose

# Run folders, their config.yaml and what is printed are this program's own.
REFUSED = {
    "hydra.run": "the run folder is named by run=NAME",
    "hydra.sweep": "the folders of a sweep's jobs are run=NAME and the values that are swept",
    "hydra.output_subdir": "the run folder keeps config.yaml",
    "hydra.job.chdir": "paths are those of the folder in which the command is given",
    "hydra.mode": "-m starts a sweep",
    "hydra.job_logging": "hydra.verbose=true or hydra.verbose=[NAME] shows logs",
    "hydra.hydra_logging": "hydra.verbose=true or hydra.verbose=[NAME] shows logs",
    "hydra.launcher": "-m runs one job after the other, -m launcher=slurm an array job",
}
FLAGS = {  # that would take the config from elsewhere
    **dict.fromkeys(("--config-path", "-cp"), "would leave out this program's configs: write --config-dir FOLDER"),
    "--experimental-rerun": "would run a pickled config: give the run's command again",
}
BATCH = "hydra.sweeper.max_batch_size"
PACKAGES = {"optuna": "hydra_optuna_sweeper", "ax": "hydra_ax_sweeper", "nevergrad": "hydra_nevergrad_sweeper"}


def settings(overrides: Sequence[str], pages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Hydra's own keys and their values; the command line's come before those of the later pages, then the earlier.

    Args:
        overrides: KEY=VALUE, as typed.
        pages: what the YAMLs say that a person chooses by --config-name and experiment=.
    """
    found: dict[str, Any] = {}
    for page in pages:
        found |= {key: value for key, value in choices_of(page).items() if key.startswith("hydra/")}
        found |= _leaves(page.get("hydra"), "hydra")
    for word in overrides:
        key, _, value = word.lstrip("+~").partition("=")
        if key.startswith(("hydra.", "hydra/")):
            found[key] = value
    return found


def choices_of(page: Mapping[str, Any]) -> dict[str, Any]:
    """Group -> its choice in a YAML's list of defaults; `override /hydra/sweeper: optuna` is of hydra/sweeper."""
    entries = [entry for entry in page.get("defaults") or () if isinstance(entry, Mapping)]
    return {
        re.sub(r"^((override|optional) )*/?", "", str(key)).partition("@")[0]: value
        for entry in entries
        for key, value in entry.items()
    }


def _leaves(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {} if value is None else {path: value}
    return {key: leaf for name, child in value.items() for key, leaf in _leaves(child, f"{path}.{name}").items()}


def sweeper(given: Mapping[str, Any]) -> str:
    """The sweeper that Hydra's settings choose."""
    return str(given.get("hydra/sweeper") or "basic")


def sweepers(folders: Sequence[Path]) -> list[str]:
    """The sweepers that hydra/sweeper may name: those of Hydra and its plugins, and those in folders of configs."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    Plugins.instance()  # each that is installed stores its own
    files = [*ConfigStore.instance().list("hydra/sweeper"), *(f for x in folders for f in x.glob("hydra/sweeper/*"))]
    return sorted({*PACKAGES, *(Path(file).stem for file in files)})


def settings_faults(
    given: Mapping[str, Any], overrides: Sequence[str], sweeps: bool, optimize: str | None, folders: Sequence[Path]
) -> Iterator[str]:
    """A fault for each of Hydra's own keys that would not do here what it does in Hydra; it begins with the key.

    Args:
        given: what `settings` gives.
        overrides: KEY=VALUE, as typed.
        sweeps: whether there are several jobs.
        optimize: the number that the jobs return.
        folders: of configs.
    """
    for key, value in given.items():
        dotted = key.replace("/", ".")
        for name, instead in REFUSED.items():
            if (dotted == name or dotted.startswith(f"{name}.")) and not (key == "hydra/launcher" and value == "basic"):
                yield f"{key} is {value}, but here {instead}: remove it"
    batch = str(given.get(BATCH, "null"))
    if not re.fullmatch(r"[1-9]\d*|null", batch):
        yield f"{BATCH} is {batch}, expected a whole number from 1, or null: leave it out for all jobs at once"
    chosen = sweeper(given)
    if chosen == "basic":
        for word in (word for word in overrides if re.search(r"=.*\binterval\(", word) and sweeps):
            yield f"{word} leaves the value to a sweeper: add hydra/sweeper=optuna, or write values with commas"
        return
    if chosen not in PACKAGES and chosen not in (known := sweepers(folders)):
        yield f"hydra/sweeper={chosen} does not exist: {choose(chosen, known)}"
        return
    if not sweeps:
        yield f"hydra/sweeper is {chosen}, which chooses the values of several jobs: add -m"
    elif optimize is None:
        yield f"hydra/sweeper is {chosen}, and no number is named that it is to optimise: add optimize=val/loss/ema"
    package = PACKAGES.get(chosen)
    if package and not installed(f"hydra_plugins.{package}"):
        extra = "'lightning-gen[optuna]'" if chosen == "optuna" else package.replace("_", "-")
        yield f"hydra/sweeper={chosen} needs {package.replace('_', '-')}, which is not installed: pip install {extra}"


def located(faults: Iterable[str], files: Mapping[str, Path]) -> list[str]:
    """The faults, which begin with a key, after the YAML that sets it, where one does."""
    keys = ((fault, re.split("[ =]", fault)[0]) for fault in faults)
    return [f"{files[key]}: {fault}" if key in files else fault for fault, key in keys]


def installed(plugin: str) -> bool:
    """Whether there is a plugin of Hydra's."""
    try:
        return find_spec(plugin) is not None
    except ModuleNotFoundError:  # no plugin at all
        return False


def sweeper_defaults(given: Mapping[str, Any], better: str | None) -> list[str]:
    """Overrides for Optuna's sweeper, where the person says nothing of them.

    Args:
        given: what `settings` gives.
        better: whether a lower or a higher value of the objective is better; None: unknown.
    """
    if sweeper(given) != "optuna":
        return []
    direction = {"lower": "minimize", "higher": "maximize"}.get(better or "")
    # A failed job does not stop the others; two at a time would only be asked for, and run one after the other.
    wanted = {"hydra.sweeper.max_failure_rate": 1.0, "hydra.sweeper.n_jobs": 1, "hydra.sweeper.direction": direction}
    return [f"{key}={value}" for key, value in wanted.items() if value is not None and key not in given]


def search_folders(given: Mapping[str, Any], faults: list[str]) -> list[Path]:
    """The folders of hydra.searchpath, file://FOLDER or pkg://PACKAGE; a fault is added for each that is none."""
    value = given.get("hydra.searchpath", [])
    entries = [part.strip(" '\"") for part in value.strip("[] ").split(",")] if isinstance(value, str) else value
    found = []
    for entry in filter(None, map(str, entries)):
        scheme, separator, rest = entry.rpartition("://")
        folder = _package_folder(rest) if scheme == "pkg" else Path(rest)
        if (separator and scheme not in ("file", "pkg")) or folder is None or not folder.is_dir():
            faults.append(f"hydra.searchpath names {entry}, expected file://FOLDER or pkg://PACKAGE: name one there is")
        else:
            found.append(folder)
    return found


def _package_folder(name: str) -> Path | None:
    """The folder of a package, which is imported for it, as Hydra does."""
    try:
        folder = files(name.replace("/", "."))
    except (ModuleNotFoundError, TypeError, ValueError):
        return None
    return Path(str(folder))


def choices(folder: Path) -> dict[str, list[str]]:
    """Group -> its choices, of a folder of configs."""
    groups = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return {path.name: sorted(file.stem for file in path.glob("*.yaml")) for path in groups}


def config_files(folder: Path) -> set[str]:
    """The primary configs and those of groups, relative to a folder of configs."""
    return {str(path.relative_to(folder)) for pattern in ("*.yaml", "*/*.yaml") for path in folder.glob(pattern)}


def folder_faults(folders: Sequence[Path]) -> Iterator[str]:
    """A fault for each of the person's folders that is none or has a name of the first one's, ours."""
    ours, *theirs = folders
    for folder in theirs:
        if not folder.is_dir():
            yield f"--config-dir {folder} is no folder: name one that holds experiment/NAME.yaml"
        for name in sorted(config_files(folder) & config_files(ours)):
            yield f"{folder}/{name} has the name of one of ours, which Hydra would take: rename it"

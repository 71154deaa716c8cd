"""What Hydra is asked for: the overrides of a run, on our configs or on the config that a run has stored."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from lightning_gen.config import stored
from lightning_gen.config.command_line import hydra_keys
from lightning_gen.config.command_line.overrides import Overrides
from lightning_gen.config.command_line.texts import quoted
from lightning_gen.config.command_line.words import Words
from lightning_gen.config.faults import misplaced
from lightning_gen.config.replacing import replaced
from lightning_gen.config.root import ARRAYS, DEFAULTS, KEYS, MEASURED, STAGES
from lightning_gen.errors import ConfigError


@dataclass
class Request:
    """What Hydra is asked for.

    Args:
        primary: the primary config's name.
        overrides: of it.
        run: the run folder, empty where the chosen experiment names it.
        faults: of the command line so far.
        swept: keys with several values.
        hydra: its own keys and their values, those of the person's YAMLs among them.
        optimize: the number that a sweep optimises.
        stored: the file of the config that a run has stored, where that is the base.
        groups: the choices that replace nodes of it.
    """

    primary: str
    overrides: list[str]
    run: str
    faults: list[str]
    swept: Sequence[str] = ()
    hydra: Mapping[str, Any] = field(default_factory=dict)
    optimize: str | None = None
    stored: Path | None = None
    groups: Mapping[str, str] = field(default_factory=dict)

    def on(self, run: str) -> "Request":
        """The same of another run: a sweep may name several, each with a stored config that is the base.

        FileNotFoundError or ValueError for a run without one.
        """
        if self.stored is None or run == self.run:
            return self
        primary, file = _base(run, self.groups)
        return replace(self, primary=primary, run=run, stored=file)


def request(words: Words) -> Request:
    """What Hydra is asked for, and the faults of the overrides.

    A value is set whether its YAML names the key or not (the signatures know the right keys), and for the stages
    that need a run, the run folder's config.yaml is the base (`stored.base`), in which a named group replaces its node.
    """
    found = Overrides(words.options(), list(words.faults), words.sweeps)
    for word in map(quoted, words.overrides):
        found.add(word)
    stage, values, groups = found.values.get("stage", "fit"), found.values, found.groups
    if not {"quality", "experiment"} & {*groups, *values}:
        for word in MEASURED.get(groups.get("data"), ()):
            found.add(word)
    found.faults += misplaced(stage, values, [*values, *groups])
    experiment, name = words.experiment(groups)
    experiments = [each for last in experiment.split(",") for each in words.lineage(last)]
    yamls = [("", words.name), *(("experiment", each) for each in experiments)]
    pages = [words.page(*yaml) for yaml in yamls]
    given = hydra_keys.settings(words.overrides, pages)
    optimize = values.get("optimize", next((page["optimize"] for page in pages[::-1] if "optimize" in page), None))
    doors = hydra_keys.settings_faults(given, words.overrides, words.sweeps, optimize, words.places)
    typed = hydra_keys.settings(words.overrides, [])
    files = {
        key: words.file(*yaml)
        for yaml, page in zip(yamls, pages, strict=True)
        for key in hydra_keys.settings([], [page])
        if key not in typed
    }
    if uncomposable := [*words.page_faults(groups), *hydra_keys.located(doors, files)]:
        raise ConfigError([*found.faults, *uncomposable])
    named = [group for group in ("net", "sampler", "quality") if group in groups]
    alone = [replaced(words.page, words.lineage(experiment), group, groups[group]) for group in named]
    overrides = [*found.chosen, *chain(*alone), *found.words]
    if stage == "compare":
        return Request("config", overrides, "outputs/compare", found.faults)
    if stage == "evaluate" and values.get("samples"):
        path = Path(str(values["samples"]))
        name = path.stem if path.suffix in ARRAYS else path.name
        return Request("config", overrides, f"outputs/{name}", found.faults)
    if stage in ("fit", "estimate") or stage not in STAGES or values.get("run") == "":
        run = "" if words.name == "config" else f"outputs/{name}"
        return Request(words.name, overrides, run, found.faults, found.swept, given, optimize)
    run = str(values.get("run") or f"outputs/{name}")
    groups.pop("experiment", None)
    try:
        primary, file = _base(run, groups)
    except (FileNotFoundError, ValueError) as error:
        return Request("config", [], run, [*found.faults, str(error)])
    chosen = [word for word in found.chosen if not word.startswith("experiment=")]
    overrides = [*chosen, *found.words]
    return Request(primary, overrides, run, found.faults, found.swept, given, optimize, file, groups)


def _base(run: str, groups: Mapping[str, str]) -> tuple[str, Path]:
    """Make a primary config of what a run's stored one decides, under the groups that the person chooses.

    Returns its name and the stored file; FileNotFoundError or ValueError for a run without a config.
    """
    from hydra.core.config_store import ConfigStore

    file = stored.config_file(Path(run).expanduser())
    kept = stored.base(stored.read(file))
    chosen = {"trainer": "default", "logger": "none"} | {group: option(name) for group, name in groups.items()}
    node = {key: value for key, value in (DEFAULTS | kept).items() if key in KEYS and key not in groups}
    defaults = [*({group: name} for group, name in chosen.items()), "_self_"]
    name = f"stored-{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    ConfigStore.instance().store(name=name, node={"defaults": defaults, **node})
    return name, file


def option(name: str) -> str | list[str]:
    """A group's choice as a list of defaults has it: the first of a sweep, or all of [a,b]."""
    return [part.strip() for part in name[1:-1].split(",")] if name.startswith("[") else name.split(",")[0]

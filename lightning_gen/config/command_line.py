"""What the words of a command line mean: flags, extensions, folders of configs, and overrides for Hydra."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from lightning_gen.config import stored
from lightning_gen.config.allow import extension_faults
from lightning_gen.config.replacing import replaced
from lightning_gen.config.root import ARRAYS, DEFAULTS, KEYS, MEASURED, RUN, SAMPLES, STAGES, read_by
from lightning_gen.config.texts import as_text, quoted, undashed
from lightning_gen.errors import ConfigError
from lightning_gen.options import choose

SWEEP = ("-m", "--multirun")
ALLOW, FOLDER = "--allow", ("--config-dir", "-cd")
DEFAULT_EXPERIMENT = "ddpm_digits"


@dataclass
class Words:
    """A command line taken apart.

    Args:
        folders: of configs, ours and the person's.
        flags: Hydra's own.
        overrides: KEY=VALUE and ~KEY.
        allow: packages whose classes configs may build.
        faults: what is wrong with it.
    """

    folders: list[Path]
    flags: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    allow: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """Whether there is a run: completion, --help and --cfg show what Hydra has."""
        return not {flag for flag in self.flags if flag.startswith("-")} - set(SWEEP)

    @property
    def sweeps(self) -> bool:
        """Whether there are several jobs."""
        return bool(set(SWEEP) & set(self.flags))

    def give(self, name: str, value: str) -> None:
        """Take one of our own flags and its value."""
        if not value or value.startswith("-"):
            noun = "PACKAGE" if name == ALLOW else "FOLDER"
            self.faults.append(f"{name} names nothing: write {name} {noun}")
        elif name == ALLOW:
            self.allow += [part.strip() for part in value.split(",") if part.strip()]
        else:
            self.folders.append(Path(value))

    def look(self) -> None:
        """Note what is wrong, and leave out what cannot be used."""
        self.faults += [*extension_faults(self.allow), *_folder_faults(self.folders)]
        self.allow = [package for package in self.allow if not extension_faults([package])]
        self.folders = [folder for folder in self.folders if folder.is_dir()]
        if self.running:
            strays = [word for word in self.flags if not word.startswith("-")]
            self.faults += [f"{word} is no KEY=VALUE: write one, or one of Hydra's flags (--help)" for word in strays]
            self.flags = [word for word in self.flags if word not in strays]

    def options(self) -> dict[str, list[str]]:
        """Group -> its choices, in all folders."""
        found: dict[str, list[str]] = {}
        for folder in self.folders:
            for group, names in choices(folder).items():
                found[group] = sorted({*found.get(group, []), *names})
        return found

    def page(self, group: str, name: str) -> dict[str, Any]:
        """What a choice's YAML says; nothing where there is none, or one that `page_faults` names."""
        for folder in self.folders:
            if (file := folder / group / f"{name}.yaml").is_file():
                return {} if stored.page_fault(file) else yaml.safe_load(file.read_text()) or {}
        return {}

    def page_faults(self, groups: Mapping[str, str]) -> list[str]:
        """A fault for each chosen YAML of the person's own folders that Hydra could not read."""
        files = [folder / group / f"{name}.yaml" for folder in self.folders[1:] for group, name in groups.items()]
        return [fault for file in files if file.is_file() and (fault := stored.page_fault(file))]


@dataclass
class Request:
    """What Hydra is asked for.

    Args:
        primary: the primary config's name.
        overrides: of it.
        run: the run folder, empty where the chosen experiment names it.
        faults: of the command line so far.
        swept: keys with several values.
    """

    primary: str
    overrides: list[str]
    run: str
    faults: list[str]
    swept: Sequence[str] = ()


def split(argv: Sequence[str], ours: Path) -> Words:
    """Take a command line apart; `ours` is the folder of our experiments."""
    words = Words([ours])
    rest, words.faults = undashed(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in (ALLOW, *FOLDER):
            words.give(name, value if equals else rest.pop(0) if rest else "")
        elif word.startswith("~") or (equals and not word.startswith("-")):
            words.overrides.append(word)
        else:
            words.flags.append(word)
    words.look()
    return words


def choices(folder: Path) -> dict[str, list[str]]:
    """Group -> its choices, of a folder of configs."""
    groups = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return {path.name: sorted(file.stem for file in path.glob("*.yaml")) for path in groups}


def _folder_faults(folders: Sequence[Path]) -> Iterator[str]:
    ours, *theirs = folders
    if len(theirs) > 1:
        yield f"--config-dir names {len(theirs)} folders, Hydra takes one: put your configs into one"
    for folder in theirs:
        if not folder.is_dir():
            yield f"--config-dir {folder} is no folder: name one that holds experiment/NAME.yaml"
        known = choices(ours)
        for group, names in choices(folder).items():
            for name in sorted({*names} & {*known.get(group, [])}):
                yield f"{folder}/{group}/{name}.yaml has the name of one of ours, which Hydra would take: rename it"


def request(words: Words) -> Request:
    """What Hydra is asked for, and the faults of the overrides.

    A value is set whether its YAML names the key or not (the signatures know the right keys), and for the stages
    that need a run, the run folder's config.yaml is the base (`stored.base`), in which a named group replaces its node.
    """
    found = _Overrides(words.options(), list(words.faults), words.sweeps)
    for word in map(quoted, words.overrides):
        found.add(word)
    stage, values, groups = found.values.get("stage", "fit"), found.values, found.groups
    if not {"quality", "experiment"} & {*groups, *values}:
        for word in MEASURED.get(groups.get("data"), ()):
            found.add(word)
    found.faults += misplaced(stage, values, [*values, *groups])
    experiment = groups.get("experiment", DEFAULT_EXPERIMENT)
    if pages := words.page_faults(groups):
        raise ConfigError([*found.faults, *pages])
    named = [group for group in ("net", "sampler", "quality") if group in groups]
    alone = [replaced(words.page, experiment, group, groups[group]) for group in named]
    overrides = [*found.chosen, *chain(*alone), *found.words]
    if stage == "compare":
        return Request("config", overrides, "outputs/compare", found.faults)
    if stage == "evaluate" and values.get("samples"):
        path = Path(str(values["samples"]))
        name = path.stem if path.suffix in ARRAYS else path.name
        return Request("config", overrides, f"outputs/{name}", found.faults)
    if stage in ("fit", "estimate") or stage not in STAGES or values.get("run") == "":
        return Request("config", overrides, "", found.faults, found.swept)
    run = str(values.get("run") or f"outputs/{experiment}")
    try:
        kept = stored.base(stored.read(stored.config_file(Path(run).expanduser())))
    except (FileNotFoundError, ValueError) as error:
        return Request("config", [], run, [*found.faults, str(error)])
    groups.pop("experiment", None)
    _register(kept, groups)
    chosen = [word for word in found.chosen if not word.startswith("experiment=")]
    return Request("stored", [*chosen, *found.words], run, found.faults, found.swept)


def _register(kept: dict[str, Any], groups: dict[str, str]) -> None:
    """Make the primary config `stored`: what is kept of a stored one, under the groups that the person chooses."""
    from hydra.core.config_store import ConfigStore

    chosen = {"trainer": "default", "logger": "none"} | {group: option(name) for group, name in groups.items()}
    node = {key: value for key, value in (DEFAULTS | kept).items() if key in KEYS and key not in groups}
    defaults = [*({group: name} for group, name in chosen.items()), "_self_"]
    ConfigStore.instance().store(name="stored", node={"defaults": defaults, **node})


def option(name: str) -> str | list[str]:
    """A group's choice as a list of defaults has it: the first of a sweep, or all of [a,b]."""
    return [part.strip() for part in name[1:-1].split(",")] if name.startswith("[") else name.split(",")[0]


@dataclass
class _Overrides:
    """Overrides, sorted: root keys with their values, groups with their choices, and the words for Hydra."""

    options: dict[str, list[str]]
    faults: list[str]
    sweeps: bool = False  # whether a comma separates the values of several jobs
    swept: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    chosen: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def add(self, word: str) -> None:
        """Sort one override in."""
        from hydra.core.override_parser.overrides_parser import OverridesParser
        from hydra.errors import OverrideParseException

        word = as_text(word, self.sweeps)
        try:
            override = OverridesParser.create().parse_overrides([word])[0]
        except OverrideParseException as error:
            self.faults.append(f"{word} cannot be read: {' '.join(str(error).split())}")
            return
        key, root = override.key_or_group, override.key_or_group.split(".")[0]
        sweep = override.is_sweep_override()
        if sweep and not self.sweeps and key != "runs" and not key.startswith("hydra"):
            self.faults.append(several(key, word.partition("=")[2], key in DEFAULTS or key in self.options))
            return
        values = [str(v) for v in override.sweep_string_iterator()] if sweep else [override.value()]
        if sweep:
            self.swept.append(key)
        if key.startswith("hydra"):
            self.words.append(word)
        elif root not in KEYS and key not in self.options:
            self.faults.append(f"{key} is no key of the config: {choose(root, [*KEYS, 'experiment'])}")
        elif key == "runs" and sweep:
            listed = quoted(f"runs=[{word.partition('=')[2]}]")
            self.faults.append(f"{word} is a sweep: write {listed}")
            self.words.append(f"++{listed}")
        elif key in self.options and not isinstance(values[0], dict):
            self._choose(key, values, word.lstrip("+~"))
        else:
            self.values[key] = values[0]
            if isinstance(values[0], dict) and "_target_" in values[0]:
                self.words.append(f"++{key}=null")  # the arguments of the class that it replaces are none of its own
            self.words.append(word if word.startswith("~") else f"++{word.lstrip('+~')}")

    def _choose(self, group: str, names: list[Any], word: str) -> None:
        known = self.options[group]
        if group == "callbacks" and isinstance(names[0], list):  # all of [a,b], which are merged
            names = names[0]
        several = group == "logger" and len(names) == 1 and isinstance(names[0], list)
        wrong = [str(name) for name in (names[0] if several else names) if name is not None and str(name) not in known]
        for name in wrong:
            self.faults.append(f"{word if several else f'{group}={name}'} does not exist: {choose(name, known)}")
        if not wrong:
            words = [word]
            if several:  # each under its own name
                words = [f"{group}=none", *(f"+{group}@{group}.{name}={name}" for name in dict.fromkeys(names[0]))]
            self.groups[group] = words[0].split("=", 1)[1]
            self.chosen = [other for other in self.chosen if not other.startswith((f"{group}=", f"+{group}@"))] + words


def several(key: str, value: str, single: bool) -> str:
    """The fault of a value with commas outside of a sweep; `single`: the key is neither a list nor any text."""
    others = "write one" if single else f"""write {key}=[{value}] for a list, "{key}='{value}'" for a text"""
    return f"{key} has several values ({value}), expected one: {others}, or add -m for a run with each"


def misplaced(stage: str, values: dict[str, Any], given: Sequence[str]) -> list[str]:
    """A fault for each key that the stage would not read, and for what it needs and has not."""
    named = list(dict.fromkeys(key.split(".")[0] for key in given))
    if stage == "compare":
        keys = read_by(stage)
        return [f"stage=compare reads {', '.join(keys)}, not {key}: remove it" for key in named if key not in keys]
    owners = {"runs": "compare", "edit": "edit", "split": "compress", "format": "export"}
    faults = [
        f"{key} is read by stage={owner} alone: add stage={owner}"
        for key, owner in owners.items()
        if key in named and stage != owner
    ]
    if values.get("samples") is None or stage != "evaluate":
        if values.get("fresh") is True and stage in RUN[1:]:
            faults.append(f"fresh is True with stage={stage}, and starts a new run by stage=fit alone: remove it")
        return faults
    told = f"samples={values['samples']} is measured without a model"
    known = {*read_by(SAMPLES), "experiment", "runs"}
    return faults + [f"{told}, {key} would do nothing: remove it" for key in named if key not in known]


def swept(overrides: Sequence[str]) -> list[str]:
    """The job's overrides as parts of a folder's name, without the experiment, which names it already."""
    parts = [word.lstrip("+") for word in overrides]
    return [part.replace("/", "_") for part in parts if not part.startswith(("experiment=", "stage=", "run="))]

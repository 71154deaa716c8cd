"""What the words of a command line mean: flags, extensions, folders of configs, and overrides for Hydra."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from lightning_gen.config import hydra_keys, stored
from lightning_gen.config.allow import extension_faults
from lightning_gen.config.faults import misplaced
from lightning_gen.config.replacing import replaced
from lightning_gen.config.root import ARRAYS, DEFAULTS, KEYS, MEASURED, STAGES
from lightning_gen.config.texts import as_text, quoted, several, undashed
from lightning_gen.errors import ConfigError
from lightning_gen.options import choose

SWEEP = ("-m", "--multirun")
ALLOW, FOLDER, NAME = "--allow", ("--config-dir", "-cd"), ("--config-name", "-cn")
HELP = ("--help", "-h")
SHOWS = ("--cfg", "-c", "--info", "-i")  # the config, in the place of a run
DEFAULT_EXPERIMENT = "ddpm_digits"


@dataclass
class Words:
    """A command line taken apart.

    Args:
        folders: of configs, ours and the person's.
        searched: those of hydra.searchpath.
        name: the primary config's.
        helps: whether --help asks what the config's values mean.
        flags: Hydra's own.
        overrides: KEY=VALUE and ~KEY.
        allow: packages whose classes configs may build.
        faults: what is wrong with it.
    """

    folders: list[Path]
    searched: list[Path] = field(default_factory=list)
    name: str = "config"
    helps: bool = False
    flags: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    allow: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """Whether there is a run: completion shows what Hydra has, --cfg what a run would have."""
        return not {flag for flag in self.flags if flag.startswith("-")} - set(SWEEP)

    @property
    def composes(self) -> bool:
        """Whether the config of a run is asked for, to run it or to see it."""
        return self.running or bool({flag.partition("=")[0] for flag in self.flags} & {*SHOWS})

    @property
    def places(self) -> list[Path]:
        """Every folder of configs."""
        return [*self.folders, *self.searched]

    @property
    def sweeps(self) -> bool:
        """Whether there are several jobs."""
        return bool(set(SWEEP) & set(self.flags)) and not self.helps

    def give(self, name: str, value: str) -> None:
        """Take one of our own flags and its value."""
        if not value or value.startswith("-"):
            noun = {ALLOW: "PACKAGE", **dict.fromkeys(NAME, "NAME")}.get(name, "FOLDER")
            self.faults.append(f"{name} names nothing: write {name} {noun}")
        elif name == ALLOW:
            self.allow += [part.strip() for part in value.split(",") if part.strip()]
        elif name in NAME:
            self.name = value.removesuffix(".yaml")
        else:
            self.folders.append(Path(value))

    def look(self) -> None:
        """Note what is wrong, and leave out what cannot be used."""
        if len(self.folders) > 2:
            count = len(self.folders) - 1
            self.faults.append(f"--config-dir names {count} folders, Hydra takes one: write hydra.searchpath=[A,B]")
        self.faults += [*extension_faults(self.allow), *hydra_keys.folder_faults(self.folders)]
        self.allow = [package for package in self.allow if not extension_faults([package])]
        self.folders = [folder for folder in self.folders if folder.is_dir()]
        if not any((folder / f"{self.name}.yaml").is_file() for folder in self.folders):
            there = sorted({file.stem for folder in self.folders for file in folder.glob("*.yaml")})
            self.faults.append(f"--config-name={self.name} does not exist: {choose(self.name, there)}")
            self.name = "config"
        self.searched = hydra_keys.search_folders(
            hydra_keys.settings(self.overrides, [self.page("", self.name)]), self.faults
        )
        self.faults += hydra_keys.folder_faults([self.folders[0], *self.searched])
        if self.running:
            strays = [word for word in self.flags if not word.startswith("-")]
            self.faults += [f"{word} is no KEY=VALUE: write one, or one of Hydra's flags (--help)" for word in strays]
            self.flags = [word for word in self.flags if word not in strays]

    def options(self) -> dict[str, list[str]]:
        """Group -> its choices, in all folders."""
        found: dict[str, list[str]] = {}
        for folder in self.places:
            for group, names in hydra_keys.choices(folder).items():
                found[group] = sorted({*found.get(group, []), *names})
        return found

    def page(self, group: str, name: str) -> dict[str, Any]:
        """What a choice's YAML says, of no group a primary config's; {} for none, or one that `page_faults` names."""
        for folder in self.places:
            if (file := folder / group / f"{name}.yaml").is_file():
                return {} if stored.page_fault(file) else yaml.safe_load(file.read_text()) or {}
        return {}

    def experiment(self, groups: Mapping[str, str]) -> tuple[str, str]:
        """(the experiment, what the run is named for), by the command line or by the primary config."""
        of_primary = hydra_keys.choices_of(self.page("", self.name)).get("experiment") or DEFAULT_EXPERIMENT
        experiment = groups.get("experiment", of_primary)
        named = "experiment" in groups or self.name == "config"
        return str(experiment), str(experiment) if named else self.name

    def page_faults(self, groups: Mapping[str, str]) -> list[str]:
        """A fault for each chosen YAML of the person's own folders that Hydra could not read."""
        groups = {**groups, "": self.name}
        files = [folder / group / f"{name}.yaml" for folder in self.places[1:] for group, name in groups.items()]
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
        hydra: its own keys and their values, those of the person's YAMLs among them.
        optimize: the number that a sweep optimises.
        stored: the file of the config that a run has stored, where that is the base.
    """

    primary: str
    overrides: list[str]
    run: str
    faults: list[str]
    swept: Sequence[str] = ()
    hydra: Mapping[str, Any] = field(default_factory=dict)
    optimize: str | None = None
    stored: Path | None = None


def split(argv: Sequence[str], ours: Path) -> Words:
    """Take a command line apart; `ours` is the folder of our experiments."""
    words = Words([ours])
    rest, words.faults = undashed(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in hydra_keys.FLAGS:
            words.faults.append(f"{name} {hydra_keys.FLAGS[name]}")
            rest = rest if equals else rest[1:]
        elif name in ("--run", "-r"):
            continue  # what is done anyway
        elif name in HELP:
            words.helps = True
        elif name in (ALLOW, *FOLDER, *NAME):
            words.give(name, value if equals else rest.pop(0) if rest else "")
        elif word.startswith("~") or (equals and not word.startswith("-")):
            words.overrides.append(word)
        else:
            words.flags.append(word)
    words.look()
    return words


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
    experiment, name = words.experiment(groups)
    pages = [words.page("", words.name), *(words.page("experiment", each) for each in experiment.split(","))]
    given = hydra_keys.settings(words.overrides, pages)
    optimize = values.get("optimize", next((page["optimize"] for page in pages[::-1] if "optimize" in page), None))
    doors = hydra_keys.settings_faults(given, words.overrides, words.sweeps, optimize)
    if uncomposable := [*words.page_faults(groups), *doors]:
        raise ConfigError([*found.faults, *uncomposable])
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
        run = "" if words.name == "config" else f"outputs/{name}"
        return Request(words.name, overrides, run, found.faults, found.swept, given, optimize)
    run = str(values.get("run") or f"outputs/{name}")
    try:
        file = stored.config_file(Path(run).expanduser())
        kept = stored.base(stored.read(file))
    except (FileNotFoundError, ValueError) as error:
        return Request("config", [], run, [*found.faults, str(error)])
    groups.pop("experiment", None)
    _register(kept, groups)
    chosen = [word for word in found.chosen if not word.startswith("experiment=")]
    return Request("stored", [*chosen, *found.words], run, found.faults, found.swept, given, optimize, file)


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
        listed = sweep and not override.is_interval_sweep()
        values = [str(v) for v in override.sweep_string_iterator()] if listed else [None if sweep else override.value()]
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

"""A command line taken apart: flags, extensions, folders of configs, and overrides for Hydra."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lightning_gen.config import stored
from lightning_gen.config.allow import extension_faults
from lightning_gen.config.command_line import hydra_keys
from lightning_gen.config.command_line.texts import undashed
from lightning_gen.options import choose

CONFIGS = Path(__file__).resolve().parents[2] / "experiments"  # of this package
SWEEP = ("-m", "--multirun")
ALLOW, FOLDER, NAME = "--allow", ("--config-dir", "-cd"), ("--config-name", "-cn")
HELP = ("--help", "-h")
SHOWS = ("--cfg", "-c", "--info", "-i")  # the config, in the place of a run
COMMANDS = ("check", "slurm")  # of the program, that compose no config: the first word


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
        return self.running or bool(self.shows)

    @property
    def shows(self) -> str:
        """The flag that asks to see a config; "" for none."""
        return next((name for flag in self.flags if (name := flag.partition("=")[0]) in SHOWS), "")

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
        if self.shows and (swept := next((flag for flag in self.flags if flag in SWEEP), "")):
            several = f"{self.shows} shows the config of one job, and {swept} asks for several"
            self.faults.append(f"{several}: leave {swept} out, and write one value of each key")
        if self.running:
            strays = [word for word in self.flags if not word.startswith("-")]
            self.faults += map(self.stray, strays)
            self.flags = [word for word in self.flags if word not in strays]

    def stray(self, word: str) -> str:
        """The fault of a word that is neither KEY=VALUE nor a flag."""
        if word in COMMANDS:
            remedy = f"it comes first, as lightning-gen {word}"
        elif word in self.options().get("experiment", ()):
            remedy = f"write experiment={word}"
        else:
            remedy = "write one, or one of Hydra's flags (--help)"
        return f"{word} is no KEY=VALUE: {remedy}"

    def options(self) -> dict[str, list[str]]:
        """Group -> its choices, in all folders."""
        found: dict[str, list[str]] = {}
        for folder in self.places:
            for group, names in hydra_keys.choices(folder).items():
                found[group] = sorted({*found.get(group, []), *names})
        return found

    def page(self, group: str, name: str) -> dict[str, Any]:
        """What a choice's YAML says, of no group a primary config's; {} for none, or one that `page_faults` names."""
        file = self.file(group, name)
        return {} if not file or stored.page_fault(file) else yaml.safe_load(file.read_text(encoding="utf-8")) or {}

    def file(self, group: str, name: str) -> Path | None:
        """The YAML of a choice, of no group a primary config; None where there is none."""
        return next((file for folder in self.places if (file := folder / group / f"{name}.yaml").is_file()), None)

    def lineage(self, experiment: str, derived: tuple[str, ...] = ()) -> list[str]:
        """The experiments that one is derived from, by the lists of defaults, then itself; ValueError for a circle."""
        if experiment in derived:
            raise ValueError(
                f"experiment={derived[0]} has {experiment} derived from itself: take {experiment} out of the defaults "
                f"of {derived[-1]}"
            )
        entries = self.page("experiment", experiment).get("defaults") or ()
        bases = [entry for entry in entries if isinstance(entry, str) and entry != "_self_"]
        return [*(name for base in bases for name in self.lineage(base, (*derived, experiment))), experiment]

    def experiment(self, groups: Mapping[str, str]) -> tuple[str, str]:
        """(the experiment, what the run is named for), by the command line, the primary config, or else ours."""
        of_primary = self._chosen_by(self.name) or self._chosen_by("config")
        experiment = groups.get("experiment", of_primary)
        named = "experiment" in groups or self.name == "config"
        return str(experiment), str(experiment) if named else self.name

    def _chosen_by(self, primary: str) -> Any:
        """The experiment of a primary config's own defaults."""
        return hydra_keys.choices_of(self.page("", primary)).get("experiment")

    def page_faults(self, groups: Mapping[str, str]) -> list[str]:
        """A fault for each chosen YAML of the person's own folders that Hydra could not read."""
        groups = {**groups, "": self.name}
        files = [folder / group / f"{name}.yaml" for folder in self.places[1:] for group, name in groups.items()]
        return [fault for file in files if file.is_file() and (fault := stored.page_fault(file))]


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
        elif equals and (not name or name[-1].isspace()):  # KEY = VALUE, as one word or as several
            key = name.rstrip() or (words.flags.pop() if words.flags else "KEY")
            value = value.strip() or (rest.pop(0) if rest else "VALUE")
            words.faults.append(f"{key} = {value} has spaces around =: write {key}={value}")
        elif word.startswith("~") or (equals and not word.startswith("-")):
            words.overrides.append(word)
        else:
            words.flags.append(word)
    words.look()
    return words

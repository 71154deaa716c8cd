"""Values as a person types them, in the quotes that Hydra's grammar needs."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_gen.config.root import DEFAULTS, TEXTS
from lightning_gen.errors import sentence
from lightning_gen.options import choose

# Hydra's own flags; every other word that begins with -- sets a value.
FLAGS = ("help", "hydra-help", "version", "cfg", "resolve", "package", "multirun", "shell-completion", "info")
FLAGS += ("config-path", "config-name", "config-dir", "experimental-rerun", "allow")


def undashed(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command line with --KEY=VALUE and --KEY VALUE as KEY=VALUE, and a fault for each --KEY without a value.

    W&B's agents write the first, and Python's None for null. --run alone is Hydra's own flag, --run=NAME names the run.
    """
    words, faults, rest = [], [], list(argv)
    while rest:
        word = rest.pop(0)
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or key in FLAGS or key == "":
            words.append(word)
            continue
        follows = not equals and rest and "=" not in rest[0] and re.match(r"(?!-)|-[.\d]", rest[0])
        if follows:
            value = rest.pop(0)
        if equals or follows:
            words.append(f"{key}={'null' if value == 'None' else value}")
        elif key == "run":
            words.append(word)
        else:
            faults.append(f"--{key} has no value: write {key}=VALUE")
    return words, faults


def as_text(word: str, sweeps: bool) -> str:
    """The override with its value in quotes where Hydra's grammar does not read it; ~/ is the home folder.

    As a path with a space or =, and for a root key that is a text, as run=2024, whatever is no text. In a sweep a comma
    separates the values of several jobs, elsewhere it belongs to the text.
    """
    key, equals, value = word.partition("=")
    name = key.lstrip("+")
    other = name in DEFAULTS and name not in TEXTS
    if not equals or other or key.startswith("~") or value[:1] in ("'", '"') or "${" in value:
        return word
    try:
        if meant(parsed(word), name, sweeps):
            return word
    except ValueError:
        pass  # a text that Hydra reads once it is in quotes
    parts = separated(value) if sweeps else [value]
    return f"{key}=" + ",".join(part if part[:1] in ("'", '"') else in_quotes(part) for part in parts)


def meant(override: Any, name: str, sweeps: bool) -> bool:
    """Whether Hydra's reading is what was typed: several values in a sweep, and for a key that is a text, a text."""
    if override.is_sweep_override():
        return sweeps or (name not in TEXTS and ("." not in name or not names_text(override)))
    return name not in TEXTS or isinstance(override.value(), str | None)


def parsed(word: str) -> Any:
    """Hydra's reading of an override; ValueError where its grammar has none."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        return OverridesParser.create().parse_overrides([word])[0]
    except OverrideParseException as error:
        raise ValueError(f"{word} cannot be read: {' '.join(str(error).split())}") from error


def is_glob(override: Any) -> bool:
    """Whether the value is a pattern of a group's names, as in net=glob(unet_*)."""
    from hydra.core.override_parser.types import Glob

    return isinstance(override.value(), Glob)


def hydras(error: Exception) -> str:
    """What Hydra raises, in words: of a choice that is not there with the nearest one, else its own sentence."""
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(cause, MissingConfigException) and cause.missing_cfg_file and cause.options:
        group, _, name = cause.missing_cfg_file.rpartition("/")
        return f"{group}={name}, which a YAML names, does not exist: {choose(name, cause.options)}"
    said = isinstance(cause, HydraException | OmegaConfBaseException | YAMLError)
    return " ".join(str(cause).split()) if said else sentence(cause)


def names_text(override: Any) -> bool:
    """Whether one of the values that a comma separates is a text, as of a file's name with a comma in it."""
    from hydra.core.override_parser.types import ChoiceSweep

    value = override.value()
    return isinstance(value, ChoiceSweep) and value.simple_form and any(isinstance(each, str) for each in value.list)


def separated(value: str) -> list[str]:
    """The parts between commas, but for those in quotes or brackets."""
    quoted = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
    part = rf"(?:{quoted})(?=,|$)|(?:\([^()]*\)|\[[^\[\]]*\]|\{{[^{{}}]*\}}|[^,])*"
    return re.findall(rf"(?:^|,)({part})", value)


def in_quotes(value: str) -> str:
    """The text in Hydra's quotes; ~/ is the home folder."""
    if value == "~" or value.startswith("~/"):
        value = str(Path(value).expanduser())
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)  # backslashes before a quote escape it, others are themselves
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def quoted(word: str) -> str:
    """runs=[a,b] with each folder in quotes: Hydra takes no = of a sweep's folder without."""
    key, _, value = word.partition("=")
    if key.lstrip("+") != "runs" or not (value[:1] == "[" and value[-1:] == "]") or {"'", '"'} & set(value):
        return word
    parts = [json.dumps(part.strip(), ensure_ascii=False) for part in value[1:-1].split(",") if part.strip()]
    return f"{key}=[{','.join(parts)}]"


def several(key: str, value: str, single: bool) -> str:
    """The fault of a value with commas outside of a sweep; `single`: the key is neither a list nor any text."""
    others = "write one" if single else f"""write {key}=[{value}] for a list, "{key}='{value}'" for a text"""
    return f"{key} has several values ({value}), expected one: {others}, or add -m for a run with each"

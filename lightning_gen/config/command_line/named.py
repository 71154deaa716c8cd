"""A class or function that a command line names with its arguments, KEY=VALUE, as a node of a config."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pkgutil import resolve_name
from typing import Any

from lightning_gen.config.allow import OURS, allowing, extension_faults, granted, target_fault
from lightning_gen.config.command_line.texts import parsed, several, undashed
from lightning_gen.config.source import signature, source
from lightning_gen.errors import ConfigError, sentence


def node(target: str, words: Sequence[str]) -> dict[str, Any]:
    """The node of a target with its arguments; ConfigError with what cannot be read."""
    found: dict[str, Any] = {"_target_": target}
    words, faults = undashed(words)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key.startswith("-"):
            faults.append(f"{word} is no KEY=VALUE: write the arguments of {target} as channels=32")
            continue
        try:
            override = parsed(word)
        except ValueError as error:
            faults.append(str(error))
            continue
        if override.is_sweep_override():
            faults.append(several(key, value, False))
            continue
        *path, last = key.split(".")
        place = found
        for part in path:
            place = place.setdefault(part, {}) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[last] = override.value()
        else:
            faults.append(f"{word} is given, and {'.'.join(path)} is a value by another word: write one of them")
    if faults:
        raise ConfigError(faults)
    return found


@contextmanager
def trusting(target: str, packages: Sequence[str] = ()) -> Iterator[None]:
    """Within it, configs may build what the target's package defines too, which a person allows by naming it."""
    top = target.split(".")[0]
    if "." in target and source(top) is None:
        raise ConfigError(
            [
                f"{target} cannot be imported, for there is no package {top} on Python's path: install it, or set "
                "PYTHONPATH to the folder that it lies in"
            ]
        )
    known = "." not in target or top == OURS or top in granted() or extension_faults([top])
    named = [] if known else [top]
    with allowing([*dict.fromkeys([*granted(), *packages, *named])]):
        yield


def imported(target: str) -> Any:
    """The class or function of a name; ConfigError where it cannot be imported, or a config may not build it."""
    if fault := target_fault(target):
        raise ConfigError([f"{target} cannot be checked, {fault}"])
    try:
        import_module(target.split(".")[0])  # what it registers, as metrics, is known then
        return resolve_name(target)
    except Exception as error:
        raise ConfigError([f"{target} cannot be imported: {sentence(error)}"]) from error


def accepted(node: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the arguments of a node's target."""
    return tuple(parameter.name for parameter in signature(node["_target_"]) or ())

"""Checks a config against the signatures of its targets; nothing heavy is imported, so that it takes an instant."""

import difflib
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from lightning_gen.config.allow import Allowed, allow_list, target_fault
from lightning_gen.config.annotations import decide, kinds
from lightning_gen.config.source import VAR_KEYWORD, Parameter, signature
from lightning_gen.options import ANY, Kind, choose, fits, remedy, value_and_type, words

SPECIAL = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")  # Hydra's own keys
CONVERT = ("none", "partial", "object", "all")
NAME_IT = "name {} in _target_"


def check(
    config: Mapping[str, Any],
    given: Mapping[str, set[str]] | None = None,
    allowed: Allowed | None = None,
) -> list[str]:
    """Every fault of a resolved config, a sentence each; `given[path]` are arguments that the program adds itself."""
    return list(_faults(config, "", given or {}, allow_list() if allowed is None else allowed))


def _faults(value: Any, path: str, given: Mapping, allowed: Any) -> Iterator[str]:
    if value == "???":
        yield f"{path} is missing (???): give it a value"
    elif isinstance(value, str) and "${" in value:
        # Hydra resolves once more what it instantiates, and an escaped \${oc.env:X} has lost its escape by then.
        yield f"{path} is {value!r}, an interpolation in a resolved config: write the value"
    elif isinstance(value, Mapping):
        if "_target_" in value:
            yield from _node(value, path, given.get(path, set()), allowed)
        for key, child in value.items():
            if key not in SPECIAL:
                yield from _faults(child, f"{path}.{key}" if path else str(key), given, allowed)
    elif isinstance(value, list | tuple):
        for index, child in enumerate(value):
            yield from _faults(child, f"{path}[{index}]", given, allowed)


def _node(node: Mapping, path: str, given: set[str], allowed: Any) -> Iterator[str]:
    target, at = node["_target_"], f"{path}." if path else ""
    if fault := target_fault(target, allowed):
        yield f"{at}_target_ is {target!s}, {fault}"
        return
    yield from _special(node, at)
    parameters = signature(target)
    if parameters is not None:
        yield from arguments(node, at, given, target, parameters)


def _special(node: Mapping, at: str) -> Iterator[str]:
    if "_args_" in node:
        yield f"{at}_args_ is refused: give the arguments of {node['_target_']} by name"
    for key, options in (("_partial_", (True, False)), ("_recursive_", (True, False)), ("_convert_", CONVERT)):
        if key in node and not any(node[key] is o or (o == node[key] and isinstance(o, str)) for o in options):
            yield f"{at}{key} is {node[key]!r}, expected one of {', '.join(str(o).lower() for o in options)}"


def arguments(
    node: Mapping[str, Any], at: str, given: set[str], owner: str, parameters: Sequence[Parameter]
) -> Iterator[str]:
    """The faults of a node's keys as arguments of `owner`; the program adds those `given` itself, they may be null."""
    known = {p.name: p for p in parameters if p.kind in ("POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY")}
    free, meant = any(p.kind == VAR_KEYWORD for p in parameters), set()
    for key, value in node.items():
        if key in known:
            yield from [] if key in given and value is None else _value(value, f"{at}{key}", owner, known[key])
        elif key not in {*SPECIAL, *given} and (not free or key.startswith("_")):
            options = [*known, *SPECIAL[:4]] if key.startswith("_") else list(known)
            close = difflib.get_close_matches(key, options, n=1, cutoff=0.6)
            meant.update(close)
            hint = f"did you mean {close[0]}?" if close else f"remove it, or {choose('', options)}"
            yield f"{at}{key} is no argument of {owner}: {hint}"
    if node.get("_partial_") is not True:
        required = [parameter.name for parameter in known.values() if parameter.required]
        yield from _missing(required, {*node, *given, *meant}, at, owner)


def _missing(required: Sequence[str], present: Container[str], at: str, owner: str) -> Iterator[str]:
    for name in required:
        if name not in present:
            yield f"{at}{name} is missing, {owner} needs it: add it"


def _value(value: Any, at: str, owner: str, parameter: Parameter) -> Iterator[str]:
    alternatives = kinds(parameter.annotation, parameter.source) if parameter.annotation else [ANY]
    alternatives = alternatives + [Kind("None")] * parameter.nullable
    if not fits(value, alternatives, decide):
        found = value_and_type(value) if not isinstance(value, Mapping) else f"a {value.get('_target_', 'mapping')}"
        yield f"{at} is {found}, {owner} expects {words(alternatives)}: {remedy(value, alternatives, NAME_IT)}"

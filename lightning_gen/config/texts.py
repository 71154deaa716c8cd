"""Values of text keys as a person types them: quoted for Hydra, whose grammar would refuse or reinterpret them.

A key is a text key by its declared type, that of a root key or of the argument of the node's `_target_`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_gen.config.annotations import kinds
from lightning_gen.config.root import ROOT
from lightning_gen.config.source import annotation, signature, source
from lightning_gen.options import Kind

FUNCTION = re.compile(r"(choice|range|interval|glob|sort|shuffle|extend_list)\(.*\)$")  # Hydra's own, in a sweep
TEXT = {"str", "None"}


def quoted(word: str, config: Mapping[str, Any], sweeps: bool) -> str:
    """The override with the value of a text key in quotes; any other as it is.

    `config` has the nodes that the override changes, as far as they are known; a sweep's commas separate values.
    """
    name, equals, value = word.partition("=")
    key = name.lstrip("+")
    if not equals or name.startswith("~"):
        return word
    alternatives = declared(key, config)
    names = {kind.name for kind in alternatives}
    if names == {"list"} | names & TEXT and all({part.name for part in k.of} == {"str"} for k in alternatives if k.of):
        return f"{name}={_list(value)}" if value[:1] == "[" and value[-1:] == "]" else word
    if "str" not in names or names - TEXT or "${" in value or (sweeps and FUNCTION.match(value)):
        return word
    parts = split(value, ",") if sweeps else [value]
    return f"{name}={','.join(_text(part, 'None' in names) for part in parts)}"


def declared(key: str, config: Mapping[str, Any]) -> list[Kind]:
    """The alternatives of a dotted key's declared type; none where that is not known."""
    *path, leaf = key.split(".")
    if not path:
        types = {root.name: root.type for root in ROOT}
        return kinds(annotation(types[leaf]), source(__name__)) if leaf in types else []
    node: Any = config
    for part in path:
        node = node.get(part) if isinstance(node, Mapping) else None
    target = node.get("_target_") if isinstance(node, Mapping) else None
    found = signature(target) if isinstance(target, str) else None
    for parameter in found or ():
        if parameter.name == leaf and parameter.annotation is not None:
            return kinds(parameter.annotation, parameter.source) + [Kind("None")] * parameter.nullable
    return []


def split(text: str, separator: str) -> list[str]:
    """Parts between separators that are not within quotes."""
    parts, quote = [""], ""
    for character in text:
        if not quote and character == separator:
            parts.append("")
            continue
        if character in "'\"" and (character == quote or (not quote and not parts[-1].strip())):
            quote = "" if quote else character
        parts[-1] += character
    return parts if not quote else text.split(separator)


def _list(value: str) -> str:
    """[a,b] with each part in quotes."""
    return f"[{','.join(_text(part.strip(), False) for part in split(value[1:-1], ',') if part.strip())}]"


def _text(value: str, nullable: bool) -> str:
    """A text in Hydra's quotes; null, what is quoted already, and an interpolation as they are. ~ is the home folder."""
    whole = len(value) > 1 and value[0] in "'\"" and value[-1] == value[0] and value[0] not in value[1:-1]
    if whole or "${" in value or (nullable and value.lower() == "null"):
        return value
    if value == "~" or value.startswith("~/"):
        value = str(Path(value).expanduser())
    # Backslashes before a quote escape it, others stand for themselves.
    escaped = re.sub(r"(\\*)(')", r"\1\1\\\2", value)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def nodes(
    page: Any, options: Mapping[str, Sequence[str]], groups: Mapping[str, str], experiment: str
) -> dict[str, Any]:
    """The nodes that Hydra will compose, as far as targets are concerned; `page(group, name)` is a file's content."""
    chosen: dict[str, str] = {}
    for item in page("", "config").get("defaults", []):
        chosen |= {key: name for key, name in item.items()} if isinstance(item, Mapping) else {}
    layers: list[dict[str, Any]] = []

    def read(name: str, depth: int = 0) -> None:
        content = page("experiment", name)
        for item in content.get("defaults", []) if depth < 10 else []:
            if isinstance(item, str) and item != "_self_":
                read(item, depth + 1)
            elif isinstance(item, Mapping):
                for key, option in item.items():
                    chosen[str(key).removeprefix("override ").lstrip("/")] = option
        layers.append({key: value for key, value in content.items() if key != "defaults"})

    read(experiment)
    chosen |= {group: name.split(",")[0] for group, name in groups.items()}
    config: dict[str, Any] = {}
    for group, name in chosen.items():
        if group in options and group != "experiment" and isinstance(name, str):
            config[group] = page(group, name)
    for layer in layers:
        config = merged(config, layer)
    return config


def merged(below: Any, above: Any) -> Any:
    """Mappings merged, of other values the one above."""
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    return {key: merged(below[key], above[key]) if key in below and key in above else {**below, **above}[key] for key in {**below, **above}}

"""`--help`: every value of the config that a command line asks for, and what its class's docstring says of it."""

import ast
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lightning_gen.config.faults import GIVEN
from lightning_gen.config.root import KEYS, NODES
from lightning_gen.config.source import VAR_KEYWORD, locate, resolution, signature

ELSEWHERE = re.compile(r"(?:that|those) of `?(\w+)`?\.?$")  # a docstring that names where it is said
WIDTH, KEY_WIDTH = 120, 44
LEGEND = """A value is set by KEY=VALUE; + marks one that no YAML names, with its default. All are those of the command:
`experiment=vae_digits --help` shows another experiment's, `sampler=ddim --help` another sampler's."""


def page(config: Mapping[str, Any], groups: Mapping[str, list[str]], primary: Path, header: str) -> str:
    """The text of --help.

    Args:
        config: the composed one.
        groups: group -> its choices.
        primary: the file of the primary config, whose comments say what the root keys mean.
        header: what stands above.
    """
    lines = [header.strip(), "", LEGEND, "", "Groups, GROUP=NAME:"]
    for group, names in sorted(groups.items()):
        lines += _line(f"  {group}", ", ".join(names))
    lines += ["", "Keys:"]
    said = comments(primary.read_text(encoding="utf-8"))
    for key in KEYS:
        if key not in NODES:
            lines += _line(f"  {key}={_text(config.get(key))}", said.get(key, ""))
    for key in NODES:
        lines += _node(config.get(key), key)
    return "\n".join(lines)


def comments(text: str) -> dict[str, str]:
    """Root key -> the comment behind its value."""
    return dict(re.findall(r"^(\w+):[^#\n]*# (.*)$", text, re.MULTILINE))


def described(target: str) -> dict[str, str]:
    """Argument -> what the docstrings of a class and its bases say of it; nothing where there is no source."""
    place, node = locate(target) or (None, None)
    said: dict[str, str] = {}
    if isinstance(node, ast.ClassDef):
        found = [each[1] for each in resolution(place, node) if each is not None]
        inits = [item for each in found for item in each.body if getattr(item, "name", "") == "__init__"]
        nodes = [*found, *inits]
    else:
        nodes = [node] if isinstance(node, ast.FunctionDef) else []
    texts = [text for each in nodes if (text := ast.get_docstring(each))]
    for text in texts:
        said = arguments(text) | {name: told for name, told in said.items() if not ELSEWHERE.match(told)}
    for name, match in [(name, match) for name, told in said.items() if (match := ELSEWHERE.match(told))]:
        there = place.find(match[1])
        said[name] = arguments((there and ast.get_docstring(there[1])) or "").get(name, match[0])
    for parameter in signature(target) or ():  # of docstrings that say it in a paragraph: block: samples per draw.
        if parameter.name not in said:
            pattern = rf"(?:^|\.\s){parameter.name}: (.+?)(?=\.?(?:\s\w+: |\s*$))"
            found = (re.search(pattern, " ".join(part.split())) for text in texts for part in text.split("\n\n"))
            if match := next(filter(None, found), None):
                said[parameter.name] = match[1]
    return said


def arguments(docstring: str) -> dict[str, str]:
    """Argument -> its lines under `Args:`; several that share a line, as `low, high: ...`, have it all."""
    _, found, rest = docstring.partition("Args:\n")
    if not found:
        return {}
    said: dict[str, str] = {}
    block = textwrap.dedent(re.split(r"\n(?=\S)", rest)[0])
    for entry in re.split(r"\n(?=\w)", block.strip()):
        if match := re.match(r"(\*{0,2}\w+(?:, \w+)*)(?: \([^)]*\))?: ?(.*)", entry, re.DOTALL):
            text = " ".join(match[2].split())
            said |= {name.strip(" *"): text for name in match[1].split(",")}
    return said


def _node(node: Any, path: str) -> Iterator[str]:
    """The lines of a node, and of those in it."""
    if not isinstance(node, Mapping):
        yield from ("", f"{path}: none") if path in NODES else ()
        return
    target, inner = node.get("_target_"), {}
    if target is not None:
        yield from ("", f"{path}: {target}")
        said, known = described(target), signature(target) or ()
        names = {p.name: p.default for p in known if p.kind in ("POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY")}
        partial = {"params", "optimizer"} if node.get("_partial_") else set()  # what the program gives
        for name in [*(key for key in node if not key.startswith("_")), *(key for key in names if key not in node)]:
            value, at = node.get(name), f"{path}.{name}"
            if name not in node and name in {*GIVEN.get(path, ()), *partial}:
                continue
            if isinstance(value, Mapping):
                inner[at] = value
            if isinstance(value, Mapping) and "_target_" in value:
                value = "(below)"
            shown = f"  {at}={_text(value)}" if name in node else f"+ {at}={_text(_literal(names[name]))}"
            yield from _line(shown, _first(said.get(name, "")))
        if any(p.kind == VAR_KEYWORD for p in known):
            yield "  and others, which it hands on"
    else:
        inner = {f"{path}.{key}": value for key, value in node.items()}
    for at, value in inner.items():
        yield from _node(value, at)


def _first(text: str) -> str:
    """The first sentence, whose full stop no abbreviation is."""
    return re.sub(r"(?<!\.)\.$", "", re.split(r"(?<=[a-z0-9)\]`])\. (?=[A-Z])", text)[0])


def _line(key: str, text: str) -> list[str]:
    """A key, and beside it what it means, on as many lines as that takes."""
    lines = textwrap.wrap(text, WIDTH - KEY_WIDTH, break_on_hyphens=False) or [""]
    if len(key) >= KEY_WIDTH:
        return [key, *(" " * KEY_WIDTH + line for line in lines if line)]
    return [(key.ljust(KEY_WIDTH) + lines[0]).rstrip(), *(" " * KEY_WIDTH + line for line in lines[1:])]


def _literal(source: str) -> Any:
    """What a default's source says; the source itself where only an import would tell."""
    try:
        value = ast.literal_eval(source)
    except (ValueError, SyntaxError):
        return source or "?"
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    """A value as a command line takes it."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).split("\n")[0]

"""What an annotation lets a config say: its alternatives, whether a value is one of them, and the words for it."""

import ast
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_gen.config.source import Source, lineage, locate, terminal

OWN = ("lightning_gen",)
SCALARS = {"int": "int", "float": "float", "bool": "bool", "str": "str", "None": "null"}
LISTS = {"list", "List", "Sequence", "Iterable", "Collection", "MutableSequence", "set", "Set", "frozenset"}
MAPPINGS = {"dict", "Dict", "Mapping", "MutableMapping"}
CALLS = {"Callable", "type", "Type", "partial"}
NODE = "a mapping with _target_"
WRITE = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "a text"}
WRITE |= {
    "list": "a list, as [1, 2]",
    "tuple": "a list of that length",
    "dict": "a mapping",
    "node": NODE,
    "None": "null",
    "any": "something else",
}


def kinds(node: ast.AST | None, place: Source, depth: int = 0) -> list[tuple]:
    """The alternatives of an annotation: ("int",), ("literal", values), ("list", kinds), ("node",), ..., ("any",)."""
    if depth > 20:
        return [("any",)]
    if isinstance(node, ast.Constant) and node.value is None:
        return [("None",)]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return kinds(ast.parse(node.value.strip(), mode="eval").body, place, depth + 1)
    if isinstance(node, ast.BinOp):
        return kinds(node.left, place, depth + 1) + kinds(node.right, place, depth + 1)
    if isinstance(node, ast.Subscript):
        return _generic(terminal(node.value), node.slice, place, depth)
    name = terminal(node)
    if name in SCALARS:
        return [(name,)]
    if name in LISTS | {"tuple", "Tuple"}:
        return [("list", [("any",)])]
    if name in MAPPINGS | CALLS:
        return [("dict",) if name in MAPPINGS else ("node",)]
    if not name or name in ("Any", "object"):
        return [("any",)]
    # Everything that torch itself exports to annotations is a class, and its __init__.py takes 50 ms to parse.
    if ast.unparse(node) == f"torch.{name}" or place.names.get(name) == ("torch", name):
        return [("node",)]
    found = place.follow(node)
    if found is None or isinstance(found[1], ast.FunctionDef):
        return [("any",)]
    if not isinstance(found[1], ast.ClassDef):
        return kinds(found[1], found[0], depth + 1)
    protocol = any(terminal(base) == "Protocol" for base in found[1].bases)
    return [("node", None if protocol or found[0].module.split(".")[0] not in OWN else found[1])]


def _generic(head: str, index: ast.expr, place: Source, depth: int) -> list[tuple]:
    parts = index.elts if isinstance(index, ast.Tuple) else [index]
    inner = [] if head == "Literal" else [kinds(part, place, depth + 1) for part in parts]
    if head == "Literal":
        return [("literal", [ast.literal_eval(part) for part in parts])]
    if head in ("Optional", "Union"):
        return sum(inner, [("None",)] if head == "Optional" else [])
    if head in ("Annotated", "Final", "Required"):
        return inner[0]
    if head in LISTS or head in ("tuple", "Tuple") and ast.unparse(parts[-1]) == "...":
        return [("list", inner[0])]
    if head in ("tuple", "Tuple"):
        return [("tuple", inner)]
    return [("dict",) if head in MAPPINGS else ("node",) if head in CALLS else ("any",)]


def fits(value: Any, alternatives: list[tuple]) -> bool:
    """Whether a value of a config is one that the annotation allows."""
    return any(_fits(value, *alternative) for alternative in alternatives)


def _fits(value: Any, kind: str, of: Any = None) -> bool:
    if kind == "any" or value == "???":
        return True
    if isinstance(value, Mapping):
        return kind == "dict" if "_target_" not in value else _builds(value, kind, of)
    if isinstance(value, list | tuple):
        if kind == "tuple":
            return len(value) == len(of) and all(fits(v, k) for v, k in zip(value, of, strict=True))
        return kind == "list" and all(fits(v, of) for v in value)
    if kind == "literal":
        return any(type(v) is type(value) and v == value for v in of)
    return type(value).__name__ in {"float": ("int", "float"), "None": ("NoneType",)}.get(kind, (kind,))


def _builds(node: Mapping, kind: str, of: Any) -> bool:
    """Whether what a node builds may stand where `kind` is asked for; in doubt it may."""
    found = locate(str(node["_target_"]))
    if found is None or not isinstance(found[1], ast.ClassDef):
        return True  # a function returns anything
    if kind == "node" and of is not None and found[0].module.split(".")[0] in OWN:
        return any(base is None or base[1] is of for base in lineage(*found))
    return kind in ("node", "list", "tuple", "dict")


def describe(alternatives: list[tuple]) -> str:
    """The alternatives in words: "int or null"; classes are named only where nothing simpler is allowed."""
    values = [value for kind, *of in alternatives if kind == "literal" for value in of[0]]
    rest = [alternative for alternative in alternatives if alternative[0] not in ("literal", "None")]
    simple = [alternative for alternative in rest if alternative[0] != "node"]
    words = dict.fromkeys(_word(*alternative) for alternative in (simple or ([] if values else rest)))
    listed = ["one of " + ", ".join(dict.fromkeys(map(str, values)))] if values else []
    return " or ".join([*listed, *words] + ["null"] * (("None",) in alternatives))


def _word(kind: str, of: Any = None) -> str:
    if kind == "node":
        return f"a {of.name}" if of else NODE
    if kind == "list":
        return "a list" if of == [("any",)] else f"a list of {describe(of)}"
    if kind == "tuple":
        return f"a list of {len(of)}: {', '.join(describe(part) for part in of)}"
    return {"dict": "a mapping", "any": "anything"}.get(kind) or SCALARS[kind]


def remedy(value: Any, alternatives: list[tuple]) -> str:
    """What to write instead."""
    names = [str(v) for kind, *of in alternatives if kind == "literal" for v in of[0]]
    allowed = [kind for kind, *_ in alternatives]
    if "None" in allowed and str(value).lower() in ("none", "nil", "~"):
        return "write null"
    if names:
        return nearest(str(value), names) or f"write {names[0]}"
    classes = [of[0].name for kind, *of in alternatives if kind == "node" and of and of[0]]
    word = next(WRITE[kind] for kind in WRITE if kind in allowed)
    return f"name a {' or '.join(classes)} in _target_" if classes and word is NODE else f"write {word}"


def nearest(word: str, options: Sequence[str]) -> str:
    """A question after the option that looks most like the word, "" if none does."""
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else ""


def choose(word: str, options: Sequence[str]) -> str:
    """The nearest option, or all of them."""
    return nearest(word, options) or (f"choose one of {', '.join(sorted(options))}" if options else "remove it")

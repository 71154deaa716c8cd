"""What an annotation in a source file lets a config say: the alternatives of `options`, read without an import."""

import ast
import math
from collections.abc import Mapping, Sequence
from typing import Any

import annotated_types

from lightning_gen.config.source import Source, lineage, locate, terminal
from lightning_gen.options import ANY, CALLS, LISTS, MAPPINGS, SCALARS, Kind, narrowed, suggestion

OWN = ("lightning_gen",)


def kinds(node: ast.AST | None, place: Source, depth: int = 0) -> list[Kind]:
    """The alternatives of an annotation."""
    if depth > 20:
        return [ANY]
    if isinstance(node, ast.Constant) and node.value is None:
        return [Kind("None")]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return kinds(ast.parse(node.value.strip(), mode="eval").body, place, depth + 1)
    if isinstance(node, ast.BinOp):
        return kinds(node.left, place, depth + 1) + kinds(node.right, place, depth + 1)
    if isinstance(node, ast.Subscript):
        return _generic(terminal(node.value), node.slice, place, depth)
    name = terminal(node)
    if name in SCALARS:
        return [Kind(name)]
    if name in LISTS | {"tuple", "Tuple"}:
        return [Kind("list", [ANY])]
    if name in MAPPINGS | CALLS:
        return [Kind("dict" if name in MAPPINGS else "object")]
    if not name or name in ("Any", "object"):
        return [ANY]
    # Everything that torch itself exports to annotations is a class, and its __init__.py takes 50 ms to parse.
    if ast.unparse(node) == f"torch.{name}" or place.names.get(name) == ("torch", name):
        return [Kind("object")]
    found = place.follow(node)
    if found is None or isinstance(found[1], ast.FunctionDef):
        return [ANY]
    if not isinstance(found[1], ast.ClassDef):
        return kinds(found[1], found[0], depth + 1)
    protocol = any(terminal(base) == "Protocol" for base in found[1].bases)
    return [Kind("object", None if protocol or found[0].module.split(".")[0] not in OWN else found[1])]


def _generic(head: str, index: ast.expr, place: Source, depth: int) -> list[Kind]:
    parts = index.elts if isinstance(index, ast.Tuple) else [index]
    if head == "Literal":
        return [Kind("literal", [ast.literal_eval(part) for part in parts])]
    if head == "Annotated":
        bounds = [bound for part in parts[1:] if (bound := _bound(part, place)) is not None]
        return narrowed(kinds(parts[0], place, depth + 1), bounds)
    inner = [kinds(part, place, depth + 1) for part in parts]
    if head in ("Optional", "Union"):
        return sum(inner, [Kind("None")] if head == "Optional" else [])
    if head in ("Final", "Required"):
        return inner[0]
    if head in LISTS or head in ("tuple", "Tuple") and ast.unparse(parts[-1]) == "...":
        return [Kind("list", inner[0])]
    if head in ("tuple", "Tuple"):
        return [Kind("tuple", inner)]
    return [Kind("dict" if head in MAPPINGS else "object" if head in CALLS else "any")]


def _bound(node: ast.expr, place: Source) -> Any:
    """The range of an `Annotated`, as Gt(0) or Interval(ge=0, le=1); None for anything else."""
    name = terminal(node.func) if isinstance(node, ast.Call) else ""
    if name not in annotated_types.__all__:
        return None
    try:
        named = {word.arg: _number(word.value, place) for word in node.keywords}
        return getattr(annotated_types, name)(*(_number(argument, place) for argument in node.args), **named)
    except (ValueError, TypeError):  # not a number, which only an import would tell
        return None


def _number(node: ast.expr, place: Source, depth: int = 0) -> float:
    """A literal number, inf or math.inf, or a constant by its name; ValueError for anything else."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number(node.operand, place, depth)
    if terminal(node) == "inf":
        return math.inf
    if terminal(node) and depth < 20 and (found := place.follow(node)):
        return _number(found[1], found[0], depth + 1)
    return ast.literal_eval(node)


def decide(value: Any, kind: Kind) -> bool | None:
    """Whether what a config's node builds may stand where `kind` is asked for, in doubt it may; None: no node."""
    if value == "???":
        return True
    if not isinstance(value, Mapping) or "_target_" not in value:
        return False if kind.name == "object" else None
    found = locate(str(value["_target_"]))
    if found is None or not isinstance(found[1], ast.ClassDef):
        return True  # a function returns anything
    if kind.name == "object" and kind.of is not None and found[0].module.split(".")[0] in OWN:
        return any(base is None or base[1] is kind.of for base in lineage(*found))
    return kind.name in ("object", "list", "tuple", "dict")


def choose(word: str, options: Sequence[str]) -> str:
    """The nearest option, or all of them."""
    return suggestion(word, options) or (f"choose one of {', '.join(sorted(options))}" if options else "remove it")

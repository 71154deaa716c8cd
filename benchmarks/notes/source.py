"""The source of what measures and draws, and its hash, by which numbers are known to be older than their code."""

import ast
import hashlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any


def lines(thing: Any) -> list[str]:
    """The source of a function or class, without docstrings, comments on lines of their own, and empty lines."""
    source, start = inspect.getsourcelines(thing)
    indent = len(source[0]) - len(source[0].lstrip())
    tree, dropped = ast.parse("".join(line[indent:] or "\n" for line in source)), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            dropped |= {*range(node.body[0].lineno, node.body[0].end_lineno + 1)}
    kept = [line.strip() for i, line in enumerate(source, 1) if i not in dropped]
    return [line for line in kept if line and not line.startswith("#")]


def named(thing: Any) -> Iterator[tuple[str, Any]]:
    """The names in the source of a function or class of this book, with what they are in its module."""
    module, words = vars(sys.modules[thing.__module__]), set(re.findall(r"\w+", "\n".join(lines(thing))))
    yield from ((word, module[word]) for word in sorted(words & set(module)))


def collect(thing: Any, found: dict[str, Any]) -> None:
    """Add the source of a function or class, and of what it names: of this book in depth, of the package once."""
    key = f"{thing.__module__}.{thing.__qualname__}"
    if key in found:
        return
    found[key] = lines(thing)
    if not thing.__module__.startswith("benchmarks."):
        return
    for name, value in named(thing):
        if inspect.isclass(value) or inspect.isfunction(value):
            if value.__module__.startswith(("benchmarks.", "lightning_gen.")):
                collect(value, found)
        elif text := constant(name, value):
            found[f"{thing.__module__}.{name}"] = text


def constant(name: str, value: Any) -> str | None:
    """A constant of this book: its value, or of a dictionary, which may hold functions, its source; None of others."""
    if isinstance(value, int | float | str | tuple | list):
        return repr(value)
    modules = [each for key, each in sys.modules.items() if key.startswith("benchmarks.")]
    for module in modules if isinstance(value, dict) else ():
        for node in ast.parse(inspect.getsource(module)).body if vars(module).get(name) is value else ():
            if isinstance(node, ast.Assign | ast.AnnAssign) and ast.unparse(node).startswith((f"{name} =", f"{name}:")):
                return ast.unparse(node)
    return None


@cache
def code(function: Callable) -> str:
    """The hash of a function's code, with that of all that it names of this book, and of the package's classes."""
    found: dict[str, Any] = {}
    collect(function, found)
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]

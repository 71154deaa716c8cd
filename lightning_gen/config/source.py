"""Reads what a dotted name stands for, and its arguments, from source files: nothing is imported for it."""

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

VAR_KEYWORD = "VAR_KEYWORD"
ROOTS = {"object", "ABC", "Protocol", "Generic"}  # bases without a constructor of their own


class Parameter(NamedTuple):
    """One argument: its name, whether it has a default, its annotation and the source in which that is understood."""

    name: str
    kind: str  # as inspect.Parameter.kind.name
    required: bool
    annotation: ast.expr | None
    nullable: bool  # its default is None, whatever the annotation says
    source: "Source"
    default: str = ""  # as the source writes it


class Source:
    """A module's source file: what its top-level names are bound to."""

    def __init__(self, module: str, path: Path) -> None:
        self.module, self.path = module, path
        self.names: dict[str, ast.AST | tuple[str, str]] = {}  # a definition, a value, or (module, name) to import
        self.stars: list[str] = []
        self.typing: set[str] = set()  # names that only a type checker sees
        self._read(ast.parse(path.read_bytes()).body)

    def _read(self, body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                self.names[node.name] = node
            elif isinstance(node, ast.Import | ast.ImportFrom):
                self._import(node)
            elif isinstance(node, ast.Assign):
                self.names.update({target.id: node.value for target in node.targets if isinstance(target, ast.Name)})
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                self.names[node.target.id] = node.value
            elif node.__class__.__name__ == "TypeAlias":  # the type statement of Python 3.12
                self.names[node.name.id] = node.value
            elif isinstance(node, ast.If | ast.Try | ast.With):
                self._branches(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.stars.append(self._absolute(node))
            elif isinstance(node, ast.ImportFrom):
                self.names[alias.asname or alias.name] = (self._absolute(node), alias.name)
            else:
                first = alias.name.split(".")[0]
                self.names[alias.asname or first] = (alias.name if alias.asname else first, "")

    def _branches(self, node: ast.If | ast.Try | ast.With) -> None:
        """What the first branch binds counts; the others add what it does not bind."""
        before = dict(self.names)
        for branch in (getattr(node, "orelse", []), getattr(node, "finalbody", [])):
            self._read(branch)
        for handler in getattr(node, "handlers", []):
            self._read(handler.body)
        self.names.update(before)
        self._read(node.body)
        if isinstance(node, ast.If) and terminal(node.test) == "TYPE_CHECKING":
            self.typing |= {*self.names} - {*before}

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.module.split(".") if self.path.name == "__init__.py" else self.module.split(".")[:-1]
        return ".".join(package[: len(package) - node.level + 1] + ([node.module] if node.module else []))

    def find(self, name: str, depth: int = 0) -> tuple["Source", ast.AST] | None:
        """Where `name` leads: the source that defines it and the definition or assigned value."""
        found = self.names.get(name)
        if isinstance(found, tuple):
            return locate(".".join(part for part in found if part), depth + 1)
        if isinstance(found, ast.Name | ast.Attribute) and depth < 20:
            return self.follow(found, depth + 1)
        if found is not None:
            return self, found
        return next((hit for star in self.stars if (hit := locate(f"{star}.{name}", depth + 1))), None)

    def follow(self, node: ast.expr, depth: int = 0) -> tuple["Source", ast.AST] | None:
        """Where a name or a dotted name leads."""
        dotted = ast.unparse(node)
        first, _, rest = dotted.partition(".")
        found = self.names.get(first)
        if rest and isinstance(found, tuple):
            return locate(".".join(part for part in (*found, rest) if part), depth + 1)
        return None if rest else self.find(first, depth + 1)


@cache
def source(module: str) -> Source | None:
    """The source of a module, or None where there is no such file."""
    top, *parts = module.split(".")
    try:
        spec = importlib.util.find_spec(top)  # of the top package only: of a.b it would import a
    except ValueError:
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    for part in parts:
        if path.name != "__init__.py":
            return None
        path = next((p for p in (path.parent / part / "__init__.py", path.parent / f"{part}.py") if p.is_file()), None)
        if path is None:
            return None
    return Source(module, path)


def split(dotted: str) -> tuple[str, str]:
    """(longest module, rest) of a dotted name."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        if source(".".join(parts[:end])):
            return ".".join(parts[:end]), ".".join(parts[end:])
    return "", dotted


def locate(dotted: str, depth: int = 0) -> tuple[Source, ast.AST] | None:
    """The source and the node that a dotted name leads to, through re-exports; None where it leads nowhere."""
    if depth > 20 or not all(part.isidentifier() for part in dotted.split(".")):
        return None
    module, _, name = dotted.rpartition(".")
    parent = source(module) if module else None
    return parent.find(name, depth) if parent else None


def lineage(place: Source, node: ast.ClassDef) -> Iterator[tuple[Source, ast.ClassDef] | None]:
    """A class and its bases, depth first; None for one that cannot be found."""
    yield place, node
    for base in node.bases:
        base = base.value if isinstance(base, ast.Subscript) else base
        if terminal(base) in ROOTS:
            continue
        found = place.follow(base)
        if found and isinstance(found[1], ast.ClassDef) and terminal(base) not in ("Enum", "IntEnum", "StrEnum"):
            yield from lineage(*found)
        else:
            yield None


def resolution(place: Source, node: ast.ClassDef) -> list[tuple[Source, ast.ClassDef] | None]:
    """A class and its bases in Python's order: one that several inherit comes after all of them."""
    found = list(lineage(place, node))
    return [each for index, each in enumerate(found) if each is None or each not in found[index + 1 :]]


@cache
def signature(target: str) -> tuple[Parameter, ...] | None:
    """The arguments of a class or function; None where they cannot be read (dataclasses, enums, C)."""
    place, node = locate(target) or (None, None)
    if isinstance(node, ast.FunctionDef):
        return _parameters(place, node.args, bound=False)
    return _constructor(place, node) if isinstance(node, ast.ClassDef) else None


def _constructor(place: Source, node: ast.ClassDef) -> tuple[Parameter, ...] | None:
    """The arguments of __init__, with those that each hands on to its base as **options."""
    collected: tuple[Parameter, ...] = ()
    fixed: set[str] = set()
    for found in resolution(place, node):
        if found is None or any("dataclass" in ast.unparse(decorator) for decorator in found[1].decorator_list):
            return None
        own = [item for item in found[1].body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        for init in own[:1]:
            mine, handed = _parameters(found[0], init.args, bound=True), _handed_on(init)
            names = {p.name for p in collected} | fixed
            collected += tuple(p for p in mine if p.name not in names and (handed is None or p.kind != VAR_KEYWORD))
            if handed is None:
                return collected
            fixed |= handed
    return collected


def _handed_on(init: ast.FunctionDef) -> set[str] | None:
    """The arguments that `super().__init__(name=..., **options)` sets itself, the rest being the base's; else None."""
    if init.args.kwarg is None or init.args.kwarg.arg != "options":
        return None
    for call in ast.walk(init):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__":
            given = {word.arg: ast.unparse(word.value) for word in call.keywords}
            if given.get(None) == "options":
                return {name for name in given if name}
    return None


def _parameters(place: Source, args: ast.arguments, bound: bool) -> tuple[Parameter, ...]:
    rows = [(arg, "POSITIONAL_ONLY") for arg in args.posonlyargs]
    rows += [(arg, "POSITIONAL_OR_KEYWORD") for arg in args.args]
    rows = list(zip(rows, [None] * (len(rows) - len(args.defaults)) + args.defaults, strict=True))[bound:]
    if args.vararg:
        rows.append(((args.vararg, "VAR_POSITIONAL"), ast.Constant(...)))
    rows += zip([(arg, "KEYWORD_ONLY") for arg in args.kwonlyargs], args.kw_defaults, strict=True)
    if args.kwarg:
        rows.append(((args.kwarg, VAR_KEYWORD), ast.Constant(...)))
    return tuple(
        Parameter(
            arg.arg,
            kind,
            default is None,
            arg.annotation,
            ast.unparse(default or arg) == "None",
            place,
            "" if default is None else ast.unparse(default),
        )
        for (arg, kind), default in rows
    )


def annotation(text: str) -> ast.expr:
    """An annotation as source has it."""
    return ast.parse(text, mode="eval").body


def terminal(node: ast.expr) -> str:
    """The last part of a dotted name, "" for anything else."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""

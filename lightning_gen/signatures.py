"""Checks a config against the signatures of its targets, which are read from source: nothing is imported for it."""

import ast
import difflib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

# What a config may build. `name.*` stands for every public class and function that the top package of `name` defines
# below it. Anything else is refused: a target is a call, and torch.load or shutil.copyfile would run from a config.
ALLOWED = (
    "lightning_gen.*",
    "callbacks.*",
    *(f"torch.optim.{name}" for name in ("Adam", "AdamW", "SGD", "RMSprop", "NAdam", "RAdam")),
    *(
        f"torch.optim.lr_scheduler.{name}"
        for name in (
            *("LambdaLR", "ConstantLR", "LinearLR", "StepLR", "MultiStepLR", "ExponentialLR", "PolynomialLR"),
            *("CosineAnnealingLR", "CosineAnnealingWarmRestarts", "OneCycleLR", "CyclicLR", "ReduceLROnPlateau"),
        )
    ),
    "pytorch_lightning.Trainer",
    *(f"pytorch_lightning.loggers.{name}" for name in ("WandbLogger", "TensorBoardLogger", "CSVLogger")),
    *(
        f"pytorch_lightning.callbacks.{name}"
        for name in (
            *("EarlyStopping", "LearningRateMonitor", "TQDMProgressBar", "RichProgressBar", "ModelSummary"),
            *("DeviceStatsMonitor", "GradientAccumulationScheduler", "Timer"),
        )
    ),
    "pytorch_lightning.strategies.DDPStrategy",
    "torchvision.transforms.v2.*",
)
SPECIAL = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")  # Hydra's own keys
SCALARS = {"int": "int", "float": "float", "bool": "bool", "str": "str", "None": "null"}
LISTS = {"list", "List", "Sequence", "Iterable", "Collection", "MutableSequence", "set", "Set", "frozenset", "FrozenSet"}
MAPPINGS = {"dict", "Dict", "Mapping", "MutableMapping"}
CALLS = {"Callable", "type", "Type", "partial"}
ROOTS = {"object", "ABC", "Protocol", "Generic"}  # bases without a constructor of their own
WRITE = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "null": "null"}


@dataclass(frozen=True)
class Parameter:
    """One argument: its name, its annotation with the source in which to understand it, and whether it has a default."""

    name: str
    kind: str  # as inspect.Parameter.kind.name
    required: bool
    annotation: ast.expr | None
    optional: bool  # its default is None, whatever the annotation says
    source: "Source"


class Source:
    """A module's source file: what its top-level names are bound to."""

    def __init__(self, module: str, path: Path):
        self.module, self.path = module, path
        self.names: dict[str, ast.AST | tuple[str, str]] = {}  # a definition, a value, or (module, name) to import
        self.stars: list[str] = []
        self._read(ast.parse(path.read_bytes()).body)

    def _read(self, body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                self.names[node.name] = node
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if alias.name == "*":
                        self.stars.append(self._absolute(node))
                    else:
                        self.names[alias.asname or alias.name] = (self._absolute(node), alias.name)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    self.names[alias.asname or alias.name.split(".")[0]] = (
                        alias.name if alias.asname else alias.name.split(".")[0],
                        "",
                    )
            elif isinstance(node, ast.Assign):
                self.names.update({target.id: node.value for target in node.targets if isinstance(target, ast.Name)})
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                self.names[node.target.id] = node.value
            elif node.__class__.__name__ == "TypeAlias":  # the type statement of Python 3.12
                self.names[node.name.id] = node.value
            elif isinstance(node, ast.If | ast.Try | ast.With):
                before = dict(self.names)
                for branch in ("orelse", "finalbody"):
                    self._read(getattr(node, branch, []))
                for handler in getattr(node, "handlers", []):
                    self._read(handler.body)
                self.names.update(before)
                self._read(node.body)

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


@lru_cache(maxsize=None)
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

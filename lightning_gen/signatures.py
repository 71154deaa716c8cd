"""Checks a config against the signatures of its targets; nothing heavy is imported, so that it takes an instant."""

import ast
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lightning_gen.source import Source, lineage, locate, signature, source, split, terminal

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
    *(
        f"torchvision.models.{name}"  # for quality.features.module, its weights from a local file
        for name in ("resnet18", "resnet50", "vgg16", "convnext_tiny", "efficientnet_b0", "vit_b_16")
    ),
)
OWN = ("lightning_gen", "callbacks")
FUNCTIONS = ("lightning_gen.losses.", "lightning_gen.process.")
SPECIAL = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")  # Hydra's own keys
SCALARS = {"int": "int", "float": "float", "bool": "bool", "str": "str", "None": "null"}
LISTS = {"list", "List", "Sequence", "Iterable", "Collection", "MutableSequence", "set", "Set", "frozenset"}
MAPPINGS = {"dict", "Dict", "Mapping", "MutableMapping"}
CALLS = {"Callable", "type", "Type", "partial"}
CONVERT = ("none", "partial", "object", "all")
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
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""


def choose(word: str, options: Sequence[str]) -> str:
    """The nearest option, or all of them."""
    return nearest(word, options) or (f"choose among {', '.join(sorted(options))}" if options else "remove it")


def names(module: str) -> list[str]:
    """Public classes, functions and submodules of a module, foreign imports left out."""
    place = source(module)
    own = [
        name
        for name, found in place.names.items()
        if isinstance(found, ast.ClassDef | ast.FunctionDef)
        or (isinstance(found, tuple) and found[1] and found[0].split(".")[0] == module.split(".")[0])
    ]
    if place.path.name == "__init__.py":
        own += [path.stem for path in place.path.parent.glob("*.py")]
        own += [path.parent.name for path in place.path.parent.glob("*/__init__.py")]
    return sorted({name for name in own if not name.startswith("_")})


def matches(target: str, allowed: Callable[[str], bool] | Sequence[str]) -> bool:
    """Whether the name alone stands on the allow list."""
    if callable(allowed):
        return allowed(target)
    return any(target.startswith(entry[:-1]) if entry.endswith(".*") else target == entry for entry in allowed)


def permitted(target: str, allowed: Callable[[str], bool] | Sequence[str] = ALLOWED) -> bool:
    """Whether a config may build `target`: on the allow list, public, and defined by the package that it names."""
    if not matches(target, allowed) or any(part.startswith("_") for part in target.split(".")):
        return False
    found = locate(target)
    if found is None or not isinstance(found[1], ast.ClassDef | ast.FunctionDef):
        return False
    # Of our functions only what makes losses and schedules: others write files, or load them.
    if isinstance(found[1], ast.FunctionDef) and target.split(".")[0] in OWN and not target.startswith(FUNCTIONS):
        return False
    # lightning_gen.randomness.torch.load, or a function that one of our modules imports, is not ours.
    return found[0].module.split(".")[0] == target.split(".")[0]


def check(
    config: Mapping[str, Any],
    given: Mapping[str, set[str]] | None = None,
    allowed: Callable[[str], bool] | Sequence[str] = ALLOWED,
) -> list[str]:
    """Every fault of a resolved config, a sentence each; `given[path]` are arguments that the program adds itself."""
    return list(_faults(config, "", given or {}, allowed))


def nameless(config: Mapping[str, Any], nodes: Sequence[str]) -> list[str]:
    """A fault for each node that has options, as quality=none quality.n=5 leaves them, and nothing that takes them."""
    return [
        f"{key}.{next(iter(node))} is given, and {key} names no class that takes it: remove it, or choose another {key}"
        for key in nodes
        if (node := config.get(key)) and "_target_" not in node
    ]


def _faults(value: Any, path: str, given: Mapping, allowed: Any) -> Iterator[str]:
    if value == "???":
        yield f"{path} is missing (???): give it a value"
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
    if fault := _target(target, allowed):
        yield f"{at}_target_ is {target!s}, {fault}"
        return
    if "_args_" in node:
        yield f"{at}_args_ is refused: give the arguments of {target} by name"
    for key, options in (("_partial_", (True, False)), ("_recursive_", (True, False)), ("_convert_", CONVERT)):
        if key in node and not any(node[key] is o or (o == node[key] and isinstance(o, str)) for o in options):
            yield f"{at}{key} is {node[key]!r}, expected one of {', '.join(str(o).lower() for o in options)}"
    parameters = signature(target)
    if parameters is None:
        return
    known = {p.name: p for p in parameters if p.kind in ("POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY")}
    free, meant = any(p.kind == "VAR_KEYWORD" for p in parameters), set()
    for key, value in node.items():
        if key in SPECIAL or key in given:
            continue
        if key in known:
            alternatives = kinds(known[key].annotation, known[key].source) if known[key].annotation else [("any",)]
            alternatives = alternatives + [("None",)] * known[key].nullable
            if not fits(value, alternatives):
                shown = f"{value!r} ({type(value).__name__})" if not isinstance(value, Mapping) else "a mapping"
                shown = f"a {value['_target_']}" if isinstance(value, Mapping) and "_target_" in value else shown
                yield f"{at}{key} is {shown}, {target} expects {describe(alternatives)}: {remedy(value, alternatives)}"
        elif not free or key.startswith("_"):
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
            meant.update(close)
            options = [*known, *SPECIAL[:4]] if key.startswith("_") else list(known)
            yield f"{at}{key} is no argument of {target}: {choose(key, options)}"
    if node.get("_partial_") is not True:
        for name, p in known.items():
            if p.required and name not in node and name not in given and name not in meant:
                yield f"{at}{name} is missing, {target} needs it: add it"


def _target(target: Any, allowed: Any) -> str:
    """The fault of a target, "" for none."""
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        return "expected a dotted name, as lightning_gen.nets.UNet"
    if matches(target, allowed):
        module, rest = split(target)
        if not module:
            return f"but {target.split('.')[0]} is not installed: install it"
        if locate(target) is None:
            first = rest.split(".")[0]
            return f"which {module} does not have: {choose(first, names(module))}"
        if callable(allowed) or permitted(target, allowed):
            return ""
    exact = [] if callable(allowed) else [entry for entry in allowed if not entry.endswith(".*")]
    same = [entry for entry in exact if entry.split(".")[-1] == target.split(".")[-1]]
    hint = f"did you mean {same[0]}?" if same else nearest(target, exact)
    return f"which is not on the allow list (lightning_gen.signatures.ALLOWED): {hint or 'choose a name of that list'}"

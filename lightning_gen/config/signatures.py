"""Checks a config against the signatures of its targets; nothing heavy is imported, so that it takes an instant."""

import ast
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lightning_gen.config.annotations import OWN, choose, decide, kinds
from lightning_gen.config.source import locate, signature, source, split
from lightning_gen.options import ANY, Kind, fits, remedy, suggestion, value_and_type, words

# What a config may build. `name.*` stands for every public class and function that the top package of `name` defines
# below it. Anything else is refused: a target is a call, and torch.load or shutil.copyfile would run from a config.
ALLOWED = (
    "lightning_gen.*",
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
FUNCTIONS = ("lightning_gen.losses.", "lightning_gen.process.")
SPECIAL = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")  # Hydra's own keys
CONVERT = ("none", "partial", "object", "all")


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
        if isinstance(node := config.get(key), Mapping) and node and "_target_" not in node
    ]


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
            alternatives = kinds(known[key].annotation, known[key].source) if known[key].annotation else [ANY]
            alternatives = alternatives + [Kind("None")] * known[key].nullable
            if not fits(value, alternatives, decide):
                found = (
                    value_and_type(value) if not isinstance(value, Mapping) else f"a {value.get('_target_', 'mapping')}"
                )
                advice = remedy(value, alternatives, "name {} in _target_")
                yield f"{at}{key} is {found}, {target} expects {words(alternatives)}: {advice}"
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
    hint = f"did you mean {same[0]}?" if same else suggestion(target, exact)
    listed = "the allow list (lightning_gen.config.signatures.ALLOWED)"
    return f"which is not on {listed}: {hint or 'choose a name of that list'}"

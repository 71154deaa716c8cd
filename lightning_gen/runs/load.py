"""A trained module from a folder: lightning_gen.load, and the weights that a new run starts from."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gen.config.allow import allowing
from lightning_gen.config.faults import check
from lightning_gen.config.instantiate import build_module, fault, import_extensions
from lightning_gen.errors import ConfigError, first_line
from lightning_gen.options import value_and_type
from lightning_gen.runs.folder import RunFolder
from lightning_gen.runs.weights_file import averaged

if TYPE_CHECKING:
    from lightning_gen.families import GenerativeModule


def load(path: str | os.PathLike, allow: Sequence[str] = ()) -> "GenerativeModule":
    """A trained family from a run folder, an exported folder or a checkpoint, wherever it was copied, in eval mode.

    `allow` names the packages, besides those installed as extensions, whose classes the folder's config may build.
    Only plain tensors are read (safetensors, or a checkpoint with weights_only=True), from local paths.
    Raises FileNotFoundError where there is nothing to load, ConfigError where its config is wrong or not allowed.
    """
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise TypeError(f"path is {value_and_type(path)}, expected a run folder, an export or a checkpoint: name one")
    folder = RunFolder.of(Path(path))
    with allowing([allow] if isinstance(allow, str) else allow):
        try:
            config = folder.config()
        except ValueError as error:
            raise fault(error) from error
        faults = check(config)
        if faults:
            raise ConfigError([f"{folder.configured}: {one}" for one in faults])
        import_extensions(config)
        module = build_module(config)
        give_weights(module, folder)  # an export reads its config again
    return module.eval()


def give_weights(module: Any, folder: RunFolder) -> None:
    """Give the module the folder's weights; ValueError, which names the folder, where they are of another network."""
    state = folder.weights()
    try:
        module.load_weights(state)
    except ValueError as error:
        raise ValueError(f"{folder.named or folder.path}: {error}") from error
    check_finite(module, folder)


def check_finite(module: Any, folder: RunFolder) -> None:
    """ValueError that names a parameter that is not finite; buffers may be, as a mask of -inf."""
    for key, value in module.named_parameters():
        if not value.isfinite().all():
            raise ValueError(
                f"the weights of {folder.path} hold NaN or infinity ({key}), expected finite ones: take an earlier "
                "checkpoint, or export the run again"
            )


def start_from(module: Any, path: Path) -> None:
    """Give the models of `module.initial` the averaged weights of a run, checkpoint or export.

    Raises FileNotFoundError where there is none, ValueError where the networks differ, the module cannot be started
    from that family, a weight is not finite or the config is refused.
    """
    other = RunFolder.of(path)
    try:
        family = (other.config().get("module") or {}).get("_target_")
        state = other.weights(path)
    except FileNotFoundError as error:
        told = f"init={path} is no run folder, export or checkpoint ({str(error).partition(': ')[0]})"
        raise FileNotFoundError(f"{told}: name one, or leave init out to train from nothing") from error
    if not isinstance(family, str):
        raise ValueError(f"init={path}: {other.configured} has no module._target_, expected a run's: name another")
    weights = {key.split(".", 1)[1]: value for key, value in averaged(state).items()}
    module.started_from = str(path)
    for model in module.initial(family.rpartition(".")[2]):
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(
                f"init={path} does not fit this network ({first_line(error)}): write the net of that run, or leave "
                "init out to train from nothing"
            ) from None
    check_finite(module, other)

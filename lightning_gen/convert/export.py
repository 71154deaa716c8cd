"""A folder of imported weights, config.yaml and model.safetensors, which lightning_gen.load reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from lightning_gen.config.faults import check
from lightning_gen.config.root import DEFAULTS
from lightning_gen.errors import ConfigError
from lightning_gen.results.card import write_card
from lightning_gen.runs import weights_file
from lightning_gen.runs.folder import RunFolder


class Imported(NamedTuple):
    """An imported model.

    Args:
        net: the config's node net.
        module: its node module, without shape and optimizer.
        sampler: its node sampler.
        state: the network's state dict.
        source: kind and name of the file.
    """

    net: dict[str, Any]
    module: dict[str, Any]
    sampler: dict[str, Any]
    state: Mapping[str, Tensor]
    source: str


def whole_config(
    net: dict[str, Any] | None, module: dict[str, Any], sampler: dict[str, Any], data: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A config of these nodes; without data CIFAR10 where the shape is its, else Npz, whose path is to be set."""
    if data is None:
        cifar = list(module.get("shape") or ()) == [3, 32, 32]
        data = {"_target_": "lightning_gen.data.CIFAR10"} if cifar else {"_target_": "lightning_gen.data.Npz"}
        data |= {} if cifar else {"path": "data.npz"}
        data |= {"batch_size": 128, "seed": 0, "value_range": module.get("value_range")}
    return {
        **DEFAULTS,
        "stage": "sample",
        "data": data,
        "net": net,
        "module": module,
        "sampler": sampler,
        "quality": {},
        "callbacks": {},
        "trainer": {
            "_target_": "pytorch_lightning.Trainer",
            "accelerator": "auto",
            "devices": 1,
            "max_epochs": -1,
            "max_steps": 1,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
        },
        "logger": {},
    }


def config_of(imported: Imported) -> dict[str, Any]:
    """The whole config of an imported model."""
    optimizer = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 2e-4}
    module = {**imported.module, "optimizer": optimizer, "shape": list(imported.net["shape"])}
    return whole_config(imported.net, module, imported.sampler)


def write(imported: Imported, target: Path) -> RunFolder:
    """Write the folder `target`; the errors are those of `write_folder`."""
    weights = {f"model.net.{name}": value.contiguous() for name, value in imported.state.items()}
    return write_folder(config_of(imported), weights, RunFolder(target), imported.source)


def write_folder(config: dict[str, Any], weights: Mapping[str, Tensor], folder: RunFolder, source: str) -> RunFolder:
    """Write weights, README.md and config, which comes last, so that half a folder is never loaded.

    ValueError where the folder holds a run already, ConfigError where the config does not build.
    """
    if folder.configured.exists() or folder.exported.exists():
        raise ValueError(f"{folder.path} holds a run or an export already: name a new folder")
    if faults := check(config):
        raise ConfigError(faults)
    weights_file.write(dict(weights), folder.exported, source=source)
    write_card(folder.path, config, weights, source)
    folder.store(config)
    return folder

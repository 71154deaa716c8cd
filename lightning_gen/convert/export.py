"""A folder of imported weights, config.yaml and model.safetensors, which lightning_gen.load reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from lightning_gen.config.faults import check
from lightning_gen.config.root import DEFAULTS
from lightning_gen.errors import ConfigError
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


def config_of(imported: Imported) -> dict[str, Any]:
    """A whole config; data is CIFAR10 for images of its shape, else Npz, whose path the user has to set."""
    shape, value_range = list(imported.net["shape"]), list(imported.module["value_range"])
    data: dict[str, Any] = {"_target_": "lightning_gen.data.Npz", "path": "data.npz"}
    if shape == [3, 32, 32]:
        data = {"_target_": "lightning_gen.data.CIFAR10"}
    optimizer = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 2e-4}
    return {
        **DEFAULTS,
        "stage": "sample",
        "data": {**data, "batch_size": 128, "seed": 0, "value_range": value_range},
        "net": imported.net,
        "module": {**imported.module, "optimizer": optimizer, "shape": shape},
        "sampler": imported.sampler,
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


def write(imported: Imported, target: Path) -> RunFolder:
    """Write the folder `target`, its config last, so that half a folder is never loaded.

    ValueError where the folder holds a run already, ConfigError where the config does not build.
    """
    folder, config = RunFolder(target), config_of(imported)
    if (folder.path / "config.yaml").exists() or folder.exported.exists():
        raise ValueError(f"{target} holds a run or an export already: name a new folder")
    if faults := check(config):
        raise ConfigError(faults)
    weights = {f"model.net.{name}": value.contiguous() for name, value in imported.state.items()}
    weights_file.write(weights, folder.exported, source=imported.source)
    folder.store(config)
    return folder

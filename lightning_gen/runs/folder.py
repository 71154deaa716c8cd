"""The run folder: one name, one config, its checkpoints. A name, never a clock: any rank after any kill finds it."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from lightning_gen.config.root import CHANGES
from lightning_gen.config.stored import read


class RunFolder:
    """outputs/<name>: config.yaml, checkpoints/, and what the callbacks write."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.named: Path | None = None  # the checkpoint, where one was named

    @classmethod
    def of(cls, path: Path) -> "RunFolder":
        """The folder that a user names: a run, an export, or a checkpoint inside a run's checkpoints/."""
        path = Path(path).expanduser()
        if path.suffix != ".ckpt":
            return cls(path)
        folder = cls(path.parent.parent)
        folder.named = path
        return folder

    def config(self) -> dict[str, Any]:
        """The stored config, plain values under root keys; FileNotFoundError for none, ValueError for anything else."""
        return read(self.path / "config.yaml")

    def fresh(self) -> "RunFolder":
        """The first of <name>, <name>-2, <name>-3, ... that does not exist."""
        if int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1"))) > 1:
            raise ValueError("fresh=true with several processes would give each its own folder: name a new one by run=")
        path, number = self.path, 1
        while path.exists():
            number += 1
            path = self.path.with_name(f"{self.path.name}-{number}")
        return RunFolder(path)

    def differences(self, config: dict[str, Any]) -> list[str]:
        """`key: stored value -> new value` for each difference that a resumed run may not have."""
        if not (self.path / "config.yaml").is_file():
            return []
        # A root key that is null is one that an older version did not know.
        stored, new = (
            {key: value for key, value in leaves(found) if "." in key or value is not None}
            for found in (self.config(), config)
        )
        keys = [key for key in {**stored, **new} if key.split(".")[0] not in CHANGES]
        absent = "(absent)"
        return [
            f"{key}: {stored.get(key, absent)} -> {new.get(key, absent)}"
            for key in keys
            if stored.get(key, absent) != new.get(key, absent)
        ]

    def store(self, config: dict[str, Any]) -> None:
        """Write config.yaml in one step."""
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.path / "config.yaml.part"
        partial.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        os.replace(partial, self.path / "config.yaml")

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def exported(self) -> Path:
        """The weights of an exported folder."""
        return self.path / "model.safetensors"

    @property
    def metrics(self) -> Path:
        """The last evaluation's numbers."""
        return self.path / "metrics.json"

    def set_metrics_aside(self) -> None:
        """metrics.json holds one evaluation, under one protocol; the one before stays in reach."""
        if self.metrics.is_file():
            self.metrics.replace(self.path / "metrics-before.json")

    def checkpoint(self, path: Path | None = None) -> dict[str, Any]:
        """A checkpoint's plain containers and tensors, on the CPU; FileNotFoundError where there is none."""
        import torch

        file = path or self.named or self.last
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist: the run has saved nothing yet; start it by stage=fit")
        return torch.load(file, map_location="cpu", weights_only=True)

    def weights(self, path: Path | None = None) -> dict[str, Any]:
        """The module's state dict. An export holds the averaged weights alone: model and ema both start from them."""
        if (path := path or self.named) is not None and path.suffix == ".ckpt":
            return self.checkpoint(path)["state_dict"]
        if not self.exported.is_file():
            return self.checkpoint()["state_dict"]
        from safetensors.torch import load_file

        state = load_file(self.exported)
        if self.config()["module"].get("ema_decay", "by default") is None:
            return state
        return state | {key.replace("model.", "ema.", 1): value for key, value in state.items()}

    def trained_steps(self) -> int:
        """Optimizer steps of the newest checkpoint; 0 of an export, which does not say."""
        return 0 if self.exported.is_file() else self.checkpoint()["global_step"]

    def export(self) -> "RunFolder":
        """Write <run>/export: the averaged weights as safetensors, and config.yaml."""
        from safetensors.torch import save_file

        checkpoint, target = self.checkpoint(), RunFolder(self.path / "export")
        target.store(self.config())
        weights = {key: value.contiguous() for key, value in averaged(checkpoint["state_dict"]).items()}
        save_file(weights, target.exported, {"step": str(checkpoint["global_step"])})
        return target

    def files(self) -> list[Path]:
        """What a person opens, W&B's own files left out."""
        return sorted(path for path in self.path.rglob("*") if path.is_file() and "wandb" not in path.parts)


def list_files(files: Iterable[Path]) -> None:
    """Say where everything lies."""
    print("written:", *files, sep="\n  ")


def averaged(weights: dict[str, Any]) -> dict[str, Any]:
    """The averaged model's weights of a module's state dict, as `model.*`; the raw ones where no average is kept."""
    ema = {f"model.{key.removeprefix('ema.')}": value for key, value in weights.items() if key.startswith("ema.")}
    return ema or {key: value for key, value in weights.items() if key.startswith("model.")}


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf; a list is a leaf."""
    if not isinstance(config, dict):
        yield prefix, config
        return
    for key, value in config.items():
        yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))


def read_metrics(path: str | Path) -> dict[str, dict[str, Any]]:
    """metrics.json: name -> value, error, kind, unit, protocol, step; inf and nan are floats again."""
    try:
        metrics = json.loads(Path(path).read_text())
        for entry in metrics.values():
            entry["value"] = float(entry["value"])
            entry["error"] = None if entry["error"] is None else float(entry["error"])
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); delete it and evaluate again") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not hold numbers as an evaluation writes them; evaluate again") from error
    return metrics

"""The run folder: one name, one config, its checkpoints. A name, never a clock: any rank after any kill finds it."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from lightning_gen.config.root import CHANGES
from lightning_gen.config.stored import read
from lightning_gen.errors import Stopped
from lightning_gen.runs import signals

PIECES = ".evaluation"  # what an evaluation in progress has drawn


class RunFolder:
    """outputs/<name>: config.yaml, checkpoints/, and what the callbacks write."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @classmethod
    def of(cls, path: Path) -> "RunFolder":
        """The folder that a user names: a run, an export, or a checkpoint inside a run's checkpoints/."""
        path = Path(path)
        return cls(path.parent.parent if path.suffix == ".ckpt" else path)

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

    def forget_pieces(self) -> None:
        """Remove what an evaluation that is complete had drawn."""
        shutil.rmtree(self.path / PIECES, ignore_errors=True)

    @contextmanager
    def stop_note(self, rank: int = 0) -> Iterator[None]:
        """The file `stopped`, written by rank 0 where a signal ends what is done within: torchrun's exit code is 1."""
        note = self.path / "stopped"

        def write(sentence: str) -> None:
            if rank == 0 and self.path.is_dir():
                note.write_text(f"stopped: {sentence}\n")

        if rank == 0:
            note.unlink(missing_ok=True)
        signals.leaving.insert(0, write)
        try:
            yield
        except Stopped as stop:
            write(str(stop))
            raise
        finally:
            signals.leaving.remove(write)

    def checkpoint(self, path: Path | None = None) -> dict[str, Any]:
        """A checkpoint's plain containers and tensors, on the CPU; FileNotFoundError where there is none."""
        import torch

        file = self.last if path is None else path
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist: the run has saved nothing yet; start it by stage=fit")
        return torch.load(file, map_location="cpu", weights_only=True)

    def weights(self, path: Path | None = None) -> dict[str, Any]:
        """The module's state dict. An export holds the averaged weights alone: model and ema both start from them."""
        if path is not None and path.suffix == ".ckpt":
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
        from safetensors.torch import save

        checkpoint, target = self.checkpoint(), RunFolder(self.path / "export")
        target.store(self.config())
        weights = {key: value.contiguous() for key, value in averaged(checkpoint["state_dict"]).items()}
        # Not save_file, whose files nobody else may read.
        target.exported.write_bytes(save(weights, {"step": str(checkpoint["global_step"])}))
        return target

    def files(self) -> list[Path]:
        """What a person opens, W&B's own files left out."""
        paths = (path for path in self.path.rglob("*") if path.is_file() and "wandb" not in path.parts)
        return sorted(p for p in paths if not any(part[0] == "." for part in p.relative_to(self.path).parts))


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


def samples_fault(path: str | Path) -> str:
    """What is wrong with a path that should be a folder of images or an .npz file; empty where it is one of them."""
    path = Path(path)
    if path.is_dir() or (path.suffix == ".npz" and path.is_file()):
        return ""
    return f"samples names {path}, which is no folder of images and no .npz file: name one"


def comparison_faults(runs: Sequence[str] | None) -> list[str]:
    """A fault for each folder that cannot be compared, before any work."""
    paths = [Path(run) for run in runs or ()]
    if len(paths) < 2:
        return [f"runs names {len(paths) or 'no'} folder{'s' * (not paths)}, a comparison needs two: runs=[A,B]"]
    faults = []
    for index, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:index]]:
            faults.append(f"runs names {path} twice: name each folder once")
        elif not path.is_dir():
            faults.append(f"runs names {path}, which is no folder: name a run, an export or an evaluation")
        else:
            faults += _metrics_faults(path)
    return faults


def _metrics_faults(path: Path) -> list[str]:
    file, measure = RunFolder(path).metrics, f"measure it first (stage=evaluate run={path})"
    if not file.is_file():
        return [f"{path} has no metrics.json: {measure}"]
    try:
        return [] if read_metrics(file) else [f"{file} holds no number: {measure}"]
    except ValueError as error:
        return [" ".join(str(error).split())]

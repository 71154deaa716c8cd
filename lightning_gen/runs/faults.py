"""What is wrong with the folders and files that a command line names, found before any work."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_gen.config.root import ARRAYS
from lightning_gen.config.source import signature, terminal
from lightning_gen.runs.folder import PIECES, STOP, RunFolder
from lightning_gen.runs.metrics_file import read_metrics

READING = ("fit", "estimate", "evaluate", "edit", "compress")  # the stages that read the data
# The folders of a run folder.
WITHIN = {"checkpoints", "samples", "edits", "compressed", "export", "diffusers", "wandb", "tensorboard"}
EARLY = {"record.jsonl", "run.json", STOP}  # files that a run may leave before it has a config.yaml


def folder_faults(path: Path, stage: str, samples: bool = False) -> Iterator[str]:
    """A fault for a run folder that the stage cannot use; with `samples` of somebody else's it begins a new one."""
    begins = stage == "fit" or samples
    links = [name for name in ("record.jsonl", PIECES) if (RunFolder.of(path).path / name).is_symlink()]
    if links:
        yield f"run={path}: {links[0]} is a link, and a run writes to it, expected its own: remove the link"
    elif path.suffix == ".ckpt" and not path.is_dir():
        if stage in ("fit", "compare"):
            yield f"run={path} is a checkpoint: name its run folder to resume it, or init={path} to start from it"
        elif not path.is_file():
            yield f"run={path} does not exist: name a run folder, an export, or a checkpoint"
        else:
            yield from _place_faults(RunFolder.of(path).path, begins)
    elif path.exists() and not path.is_dir():
        yield f"run={path} is a file, expected a folder: name another"
    else:
        yield from _place_faults(path, begins)


def _place_faults(path: Path, begins: bool) -> Iterator[str]:
    """A fault for a place where the run folder cannot be, or is not alone."""
    # Path("a/b").parents ends in "."; the first that exists is where folders would be made.
    base = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not base.is_dir():
        yield f"run={path} lies below {base}, which is a file: name another"
    elif not os.access(base, os.W_OK | os.X_OK):
        yield f"run={path} cannot be written, for {base} does not permit it: change its permissions, or name another"
    elif begins and (others := _others(path)):
        shown = ", ".join(others[:4]) + (", ..." if len(others) > 4 else "")
        yield f"run={path} is no run folder, and holds something else ({shown}): name a new or an empty one"


def _others(path: Path) -> list[str]:
    """The visible files and folders in a folder that holds no run, as /, a home or a project have them."""
    if not path.is_dir() or (path / "config.yaml").exists():
        return []
    names = [entry.name for entry in path.iterdir()]
    return sorted(n for n in names if n not in WITHIN | EARLY and n[0] != "." and not n.endswith(".part"))


def absent_data(config: Mapping[str, Any]) -> Iterator[str]:
    """A fault for each file or folder of the data, a LocalPath, that is not here, where the stage reads the data."""
    data = config["data"]
    for parameter in (signature(data["_target_"]) or ()) if config["stage"] in READING else ():
        local = parameter.annotation is not None and terminal(parameter.annotation) == "LocalPath"
        if local and parameter.name in data and not os.path.exists(path := data[parameter.name]):
            yield f"data.{parameter.name} is {path}, which is not a folder or file here: set it to one that is"


def samples_fault(path: str | Path) -> str:
    """What is wrong with a path that should be a folder of images or a file with an array; empty where it is one."""
    path = Path(path)
    if path.is_dir() or (path.suffix in ARRAYS and path.is_file()):
        return ""
    return f"samples names {path}, which is no folder of images and no {' or '.join(ARRAYS)} file: name one"


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

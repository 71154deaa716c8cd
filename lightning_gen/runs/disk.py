"""Whether the disk has room for a run's checkpoints, asked before the run and before each save."""

import shutil
from collections import defaultdict
from collections.abc import Sequence
from copy import copy
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer


def lack_for_a_run(folder: Path, names: Sequence[str], module: nn.Module) -> str | None:
    """A sentence where the files of these names, one more while it is written, and an export do not fit; else None."""
    size, missing = checkpoint_bytes(folder, module), [name for name in names if not (folder / name).is_file()]
    needed = size * (len(missing) + 1) + weights_bytes(module, "model.")
    free = shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.is_dir())).free
    if free >= needed:
        return None
    return (
        f"the disk of {folder.parent} has {free:,} bytes free, expected {needed:,} for {len(missing)} checkpoints to "
        f"keep, of about {size:,} each, one while it is written, and an export: free space, name a folder on another "
        "disk by run=, or keep fewer (callbacks.checkpoints)"
    )


def lack_for_a_save(folder: Path, module: nn.Module) -> str | None:
    """A sentence where one more checkpoint does not fit; else None."""
    free, size = shutil.disk_usage(folder).free, checkpoint_bytes(folder, module)
    if free >= size:
        return None
    return (
        f"the disk of {folder} has {free:,} bytes free, expected {size:,} for a checkpoint: free space; the last "
        "checkpoint is unchanged, and the same command resumes"
    )


def checkpoint_bytes(folder: Path, module: nn.Module) -> int:
    """The size of the largest checkpoint there; before any, that of weights, average and what the optimizers keep.

    Persistent chains, which the first step makes, are not in it, but in the check before each save from the second on.
    """
    if sizes := [path.stat().st_size for path in folder.glob("*.ckpt")]:
        return max(sizes)
    return weights_bytes(module) + sum(
        copies(optimizer)
        * sum(p.numel() * p.element_size() for group in optimizer.param_groups for p in group["params"])
        for optimizer in module.trainer.optimizers
    )


def copies(optimizer: Optimizer) -> int:
    """How many tensors of a weight's size the optimizer keeps of each, as a step on a weight of its own shows.

    Two, as Adam keeps, where it takes no such step: one that asks for a closure, for example.
    """
    weight = nn.Parameter(torch.zeros(3, device=optimizer.param_groups[0]["params"][0].device))
    weight.grad = torch.zeros_like(weight)
    trial = copy(optimizer)  # whose constructor need not take what its defaults name
    trial.param_groups = [{**optimizer.param_groups[0], "params": [weight]}]
    trial.state = defaultdict(dict)
    try:
        type(optimizer).step(trial)
    except Exception:  # whatever a user's optimizer raises for a weight that is not its own: an estimate ends no run
        return 2
    return sum(torch.is_tensor(value) and value.shape == weight.shape for value in trial.state[weight].values())


def weights_bytes(module: nn.Module, prefix: str = "") -> int:
    """The size of the weights whose names begin so."""
    return sum(v.numel() * v.element_size() for key, v in module.state_dict().items() if key.startswith(prefix))

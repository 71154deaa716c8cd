"""What the surroundings of a run decide: how many processes there are."""

import os
from typing import Any


def process_rank() -> int:
    """The number of this process among those that torchrun or srun started together; 0 alone."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


def processes(trainer: dict[str, Any]) -> dict[str, Any]:
    """Devices and nodes as torchrun or srun started them; refuses what would start processes by itself.

    Lightning's own launcher runs the script anew in each child, which would compose a second config and folder.
    """
    started = os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS")
    world, devices, strategy = int(started or 1), trainer.get("devices", "auto"), str(trainer.get("strategy", "auto"))
    if world > 1 and strategy == "auto":
        raise ValueError(
            f"started as {world} processes, but trainer.strategy is auto: add trainer=ddp or trainer=ddp_cpu"
        )
    if started is None and (strategy != "auto" or devices != 1):
        raise ValueError(
            f"trainer.devices is {devices} and trainer.strategy {strategy}, but nothing has started a process for each "
            "device: torchrun --nproc-per-node N run.py ... (or -m lightning_gen in the place of run.py)"
        )
    if "LOCAL_WORLD_SIZE" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return {"devices": local, "num_nodes": world // local}
    return {}

"""What the surroundings of a run decide: how many processes there are, and which of them this one is."""

import os
import re
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

TORCHRUN = "torchrun --nproc-per-node N run.py ... trainer=ddp (or -m lightning_gen in the place of run.py)"
SRUN = "srun --nodes N --ntasks-per-node M python run.py ... trainer=ddp"
WITHOUT = "torchrun sets all of them; unset them for one process"
TIMEOUT = 300  # seconds


class Place(NamedTuple):
    """Where this process stands among those that were started together.

    Args:
        rank, world: its number, and how many there are.
        local_rank, local_world: the same among those of its node.
        node, nodes: its node's number, and how many there are.
        address, port: where rank 0 answers the others.
        starter: torchrun, srun, or empty for one process.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    node: int = 0
    nodes: int = 1
    address: str = "127.0.0.1"
    port: int = 0
    starter: str = ""


def place(found: Mapping[str, str] | None = None) -> Place:
    """This process's place; ValueError where what is said of it is incomplete or contradicts itself.

    Only a task of srun has a step: within salloc or an sbatch file alone, SLURM's variables are of the job, and what
    is started is one process.
    """
    found = os.environ if found is None else found
    if any(name in found for name in ("RANK", "LOCAL_RANK")) or found.get("WORLD_SIZE", "1") != "1":
        return checked(of_torchrun(found))
    several = found.get("SLURM_STEP_NUM_TASKS", found.get("SLURM_NTASKS", "1")) != "1"
    if several and ("SLURM_STEP_ID" in found or found.get("SLURM_PROCID", "0") != "0"):
        return checked(of_srun(found))
    return Place()


def process_rank() -> int:
    """The number of this process among those that were started together; 0 alone."""
    return place().rank


def of_torchrun(found: Mapping[str, str]) -> Place:
    """The place that torchrun gives a process, or somebody by the same variables."""
    needed = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    if missing := [name for name in needed if name not in found]:
        given = ", ".join(f"{name} is {found[name]}" for name in needed[:4] if name in found)
        raise ValueError(f"{given}, but {', '.join(missing)} not set: start by {TORCHRUN}, or unset them")
    rank, world, local_rank, local_world, port = (whole(found, name) for name in (*needed[:4], needed[5]))
    if local_world < 1 or world % local_world:
        raise ValueError(
            f"LOCAL_WORLD_SIZE is {local_world} and WORLD_SIZE {world}, but every node needs as many: {WITHOUT}"
        )
    node = whole(found, "GROUP_RANK") if "GROUP_RANK" in found else rank // local_world
    nodes = world // local_world
    return Place(rank, world, local_rank, local_world, node, nodes, found["MASTER_ADDR"], port, "torchrun")


def of_srun(found: Mapping[str, str]) -> Place:
    """The place that srun gives a task."""
    needed = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_STEP_ID")
    if missing := [name for name in needed if name not in found]:
        raise ValueError(f"SLURM_NTASKS says several processes, but {', '.join(missing)} not set: start by {SRUN}")
    rank, local_rank, node, step = (whole(found, name) for name in needed)
    of_step = "SLURM_STEP_NUM_TASKS" in found
    world = whole(found, "SLURM_STEP_NUM_TASKS" if of_step else "SLURM_NTASKS")
    names = ("SLURM_STEP_NUM_NODES", "SLURM_NNODES")
    nodes = next((whole(found, name) for name in names if name in found), 1)
    told = found.get("SLURM_STEP_TASKS_PER_NODE") or found.get("SLURM_TASKS_PER_NODE") or ""
    if nodes < 1 or world % nodes or "," in told:
        raise ValueError(
            f"srun started {world} processes on {nodes} nodes ({told or 'uneven'}), but every node needs as many: "
            "srun --ntasks-per-node M"
        )
    hosts = found.get("SLURM_STEP_NODELIST") or found.get("SLURM_NODELIST") or "127.0.0.1"
    job = re.sub(r"\D", "", found.get("SLURM_JOB_ID", "")) or "0"
    port = whole(found, "MASTER_PORT") if "MASTER_PORT" in found else 15000 + (int(job) * 7 + step) % 10000
    address = found.get("MASTER_ADDR") or first_host(hosts)
    return Place(rank, world, local_rank, world // nodes, node, nodes, address, port, "srun")


def first_host(hosts: str) -> str:
    """The first of SLURM's list of hosts: a[03-05,9],b is a03."""
    return re.sub(r"^([^,\[]*)\[([^\],-]*)[^\]]*\]([^,]*).*$", r"\1\2\3", hosts).split(",")[0]


def whole(found: Mapping[str, str], name: str) -> int:
    """A variable's value; ValueError where it is no whole number from 0."""
    if not re.fullmatch(r"\d{1,9}", found[name].strip()):
        raise ValueError(f"{name} is {found[name]!r}, expected a whole number from 0: {WITHOUT}")
    return int(found[name])


def checked(here: Place) -> Place:
    """The place, if it is one of those that there are."""
    for what, number, count in (
        ("rank", here.rank, here.world),
        ("local rank", here.local_rank, here.local_world),
        ("node", here.node, here.nodes),
    ):
        if number >= count:
            raise ValueError(f"{here.starter}'s variables say {what} {number} of {count}, expected less: {WITHOUT}")
    if here.port > 65535 or (here.world > 1 and not here.port):
        raise ValueError(f"MASTER_PORT is {here.port}, expected 1 to 65535: choose another")
    return here


def processes(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """The trainer's config for Lightning, with devices and nodes as they were started; refuses what starts its own.

    Lightning's own launcher runs the script anew in each child, which would compose a second config and folder.
    """
    here = place()
    if not fitting(trainer.get("strategy", "auto")):
        raise ValueError(
            f"trainer.strategy is {trainer['strategy']}, but the average, the gradient norm and the checkpoints are of "
            "whole weights, and processes are started from outside: write auto, ddp or fsdp"
        )
    devices, nodes = trainer.get("devices", "auto"), trainer.get("num_nodes", 1)
    strategy, several = str(trainer.get("strategy", "auto")), here.world > 1
    seconds = trainer.get("timeout", TIMEOUT)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 10**6:
        raise ValueError(f"trainer.timeout is {seconds!r}, expected seconds, more than 0: write 300")
    if several and strategy == "auto":
        raise ValueError(
            f"started as {here.world} processes, but trainer.strategy is auto: add trainer=ddp or trainer=ddp_cpu"
        )
    if not here.starter and (strategy != "auto" or not one(devices)):
        raise ValueError(
            f"trainer.devices is {devices} and trainer.strategy {strategy}, but nothing has started a process for each "
            f"device: {TORCHRUN}, or {SRUN}"
        )
    if strategy == "fsdp" and not several:
        raise ValueError(
            "trainer.strategy is fsdp with one process, which keeps all weights: write trainer=gpu, or cpu"
        )
    if strategy == "fsdp" and str(trainer.get("precision")) in ("16", "16-mixed"):
        raise ValueError(
            f"trainer.precision is {trainer['precision']} with trainer.strategy fsdp, expected no loss scaler, which "
            "each process would have for its part: write trainer.precision=bf16-mixed"
        )
    if nodes not in (1, here.nodes):
        how = f"torchrun --nnodes {nodes} ..., or {SRUN}"
        raise ValueError(f"trainer.num_nodes is {nodes}, but processes were started on {here.nodes}: {how}")
    if several and not one(devices) and str(devices) not in ("auto", "-1", str(here.local_world)):
        raise ValueError(
            f"trainer.devices is {devices}, but {here.starter} started {here.local_world} processes a node: "
            "write trainer.devices=auto"
        )
    if several and not here.rank and "TORCHELASTIC_USE_AGENT_STORE" not in os.environ:
        check_port(here)
    started = {"devices": here.local_world, "num_nodes": here.nodes} if here.starter else {}
    return {key: value for key, value in trainer.items() if key != "timeout"} | started


def check_accelerator(trainer: Mapping[str, Any]) -> None:
    """ValueError where the trainer asks for a device that this machine does not have."""
    import torch

    asked, several = trainer.get("accelerator", "auto"), trainer.get("strategy", "auto")
    present = {"gpu": torch.accelerator.is_available, "cuda": torch.cuda.is_available}
    present["mps"] = torch.backends.mps.is_available
    if asked in present and not present[asked]():
        instead = "cpu" if several == "auto" else "fsdp_cpu" if several == "fsdp" else "ddp_cpu"
        raise ValueError(
            f"trainer.accelerator is {asked}, and PyTorch finds none on this machine: write trainer={instead}, or give "
            "the command where there is one"
        )


def fitting(strategy: Any) -> bool:
    """Whether a strategy is one of those that work with every part, and none starts processes, as ddp_spawn does."""
    known = ("auto", "ddp", "fsdp")
    return not isinstance(strategy, str) or strategy in known or strategy.startswith("ddp_find_unused")


def one(devices: Any) -> bool:
    """Whether a trainer's devices are one."""
    return str(devices) == "1" or (isinstance(devices, list | tuple) and len(devices) == 1)


def check_port(here: Place) -> None:
    """ValueError where somebody else listens at the port at which rank 0 is to."""
    with socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("", here.port))
        except OSError as error:
            raise ValueError(
                f"MASTER_PORT {here.port} cannot be used on {socket.gethostname()} ({error.strerror}): choose another"
            ) from None

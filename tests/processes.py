"""Two real processes over gloo, as torchrun starts them, or by its variables alone, or forked: quicker by imports."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]


def free_port():
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def place(rank, world, port):
    """The variables by which torchrun tells a process where it stands."""
    found = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": world, "RANK": rank, "LOCAL_RANK": rank}
    found |= {"LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "test", "OMP_NUM_THREADS": 1}
    return {key: str(value) for key, value in found.items()}


def start_two(*arguments):
    """Two finished processes of `python arguments` as one: the first exit code that is not 0, the output of both."""
    port = free_port()
    ranks = [
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=os.environ | place(rank, 2, port) | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    output = "".join(rank.communicate(timeout=240)[0] for rank in ranks)
    codes = [rank.returncode for rank in ranks if rank.returncode]
    return subprocess.CompletedProcess(arguments, codes[0] if codes else 0, output, "")


def two(*arguments):
    """Two processes of `python arguments`, both of which must end well."""
    done = start_two(*arguments)
    assert done.returncode == 0, done.stdout


def fork_two(function: Callable, *arguments: Any) -> None:
    """Two forked processes of `function(*arguments)`, both of which must end well."""
    torch.multiprocessing.start_processes(_rank, (function, arguments, free_port()), nprocs=2, start_method="fork")


def _rank(rank: int, function: Callable, arguments: tuple, port: int) -> None:
    """One of them; a forked process has none of its parent's threads."""
    torch.set_num_threads(1)
    os.environ.update(place(rank, 2, port))
    function(*arguments)


def torchrun(*arguments):
    """The finished process of `torchrun --nproc-per-node 2 arguments`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    return subprocess.run(
        [*command, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        cwd=ROOT,
    )

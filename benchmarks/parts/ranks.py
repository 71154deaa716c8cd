"""Two ranks over gloo against one, by the clock: images a second, and the share of a step that averages gradients."""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.parts.loop import STEPS_ALONE
from benchmarks.table import Row, at_least, counted
from benchmarks.timing import ROOT, Run, median_and_spread, row

WORDS = ["experiment=ddpm_cifar", "data=digits", "data.flip=false", "net.shape=[3,32,32]", *STEPS_ALONE]
WORDS += ["module.compile=false"]
TINY = ["net.channels=8", "net.groups=4", "net.blocks=1"]


def seconds(run: Run, world: int, batch: int) -> dict[str, Any]:
    """What benchmarks/rank.py writes: of `world` ranks with `batch` images each, in few rounds."""
    return timed([*WORDS, *(TINY if run.tiny else [])], world, batch, run.pick(4, 1))


def timed(words: list[str], world: int, batch: int, rounds: int) -> dict[str, Any]:
    """Seconds a step of rank 0, with averaged gradients and without, and of its parts: see benchmarks/rank.py.

    Args:
        words: of the command line.
        world: number of ranks.
        batch: images of each.
        rounds: of one step with averaged gradients and one without.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        words = [*words, f"data.batch_size={world * batch}", "trainer=ddp_cpu" if world > 1 else "trainer=cpu"]
        command = [sys.executable, str(ROOT / "benchmarks/rank.py"), folder, "1", str(rounds), *words]
        ranks = [
            subprocess.Popen(
                command, env=place(rank, world, port), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            for rank in range(world)
        ]
        told = [rank.communicate()[1] for rank in ranks]
        if any(rank.returncode for rank in ranks):
            raise ValueError(
                f"{command} ended with {[rank.returncode for rank in ranks]}, expected 0: {told[0][-2000:]}"
            )
        return json.loads(Path(folder, "seconds.json").read_text())


def place(rank: int, world: int, port: int) -> dict[str, str]:
    """The environment with the variables by which torchrun tells a process where it stands; none for one process."""
    found = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": world, "RANK": rank, "LOCAL_RANK": rank}
    found |= {"LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "bench"}
    told = {key: str(value) for key, value in found.items()} if world > 1 else {}
    return {**os.environ, **told, "OMP_NUM_THREADS": "1"}


def two(run: Run) -> Iterator[Row]:
    """Two ranks against one on ddpm_cifar's network."""
    what, batch = "CIFAR-10 U-Net, two ranks over gloo with 8 images each", run.pick(8, 2)
    if (os.cpu_count() or 1) < 2:
        yield Row(what, reason=f"{os.cpu_count()} core, two are needed")
        return
    one, both = seconds(run, 1, batch), seconds(run, 2, batch)
    n = min(len(one["averaged"]), len(both["averaged"]))
    found = {"": [s / 2 for s in both["averaged"][:n]], "one rank": one["averaged"][:n]}
    share, _, _ = median_and_spread(both["alone"], both["averaged"])
    reason = f"averaging gradients takes {100 * (1 - share):.0f} % of a step, and both ranks share memory and caches"
    yield row(f"{what}, images", found, ["one rank"], None, at_least(1.7), "a second", batch, reason)
    step = statistics.median(both["averaged"])
    yield counted(f"{what}, averaging gradients", 100 * (1 - share), f"% of a step of {step:.3g} s", rounds=1)


CASES = ()
LONG = (two,)

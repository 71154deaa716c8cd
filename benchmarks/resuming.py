"""What saves and a resume cost: python benchmarks/resuming.py

A save is timed inside a real run, beside `torch.save` and fsync of the same content to the same disk; its share is of
the default interval, 1,000 steps of this run. A start is timed from the process's start to the end of its first
optimizer step, new and resumed in turn, beside a process that imports what both need and ends. Seconds are of the
clock, since both wait for the disk; medians over the rounds.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

INTERVAL = 1000  # of callbacks.checkpoints.every_n_steps
QUIET = ["quality=none", "callbacks.likelihood=null", "callbacks.pictures=null", "callbacks.curves=null", "logger=none"]
SMALL = ["experiment=ddpm_digits"]
# The network of ddpm_cifar; on digits and in small batches, since a save does not depend on either.
LARGE = [
    "experiment=ddpm_cifar",
    "data=digits",
    "data.batch_size=8",
    "data.flip=false",
    "net.attention=[4]",
    "sampler.steps=10",
]
LARGE += ["trainer=cpu", "module.compile=false", "module.channels_last=false"]
IMPORTS = "import hydra, pytorch_lightning, torch, torchmetrics"


def saves(words: list[str], rounds: int) -> None:
    """Time the saves of a run that saves every other step."""
    import torch

    import run
    from lightning_gen.callbacks import Checkpoints
    from lightning_gen.families.optimisation import Optimisation
    from lightning_gen.stages.checkpoint_io import AtomicCheckpointIO

    times: dict[str, list[float]] = {"save": [], "peer": [], "step": []}
    size, content = 0, {}
    save_last, write, update = Checkpoints.save_last, AtomicCheckpointIO.save_checkpoint, Optimisation.update

    def timed(*arguments: Any) -> None:
        nonlocal size
        start = time.perf_counter()
        save_last(*arguments)
        times["save"].append(time.perf_counter() - start)
        start, path = time.perf_counter(), Path(folder) / "peer.ckpt"
        with path.open("wb") as file:
            torch.save(content["checkpoint"], file)
            file.flush()
            os.fsync(file.fileno())
        times["peer"].append(time.perf_counter() - start)
        size = path.stat().st_size
        last["step"] = time.perf_counter()

    def kept(self: Any, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        content["checkpoint"] = checkpoint
        write(self, checkpoint, path, storage_options)

    def counted(*arguments: Any) -> None:
        update(*arguments)
        now = time.perf_counter()
        times["step"].append(now - last["step"])
        last["step"] = now

    last = {"step": time.perf_counter()}
    Checkpoints.save_last, AtomicCheckpointIO.save_checkpoint, Optimisation.update = timed, kept, counted
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        steps = [f"trainer.max_steps={2 * rounds}", "callbacks.checkpoints.every_n_steps=2"]
        code = run.main([*words, *QUIET, *steps, f"run={folder}/run", "stage=fit"])
    Checkpoints.save_last, AtomicCheckpointIO.save_checkpoint, Optimisation.update = save_last, write, update
    if code:
        sys.exit(code)
    save, peer, step = (statistics.median(times[name][2:]) for name in ("save", "peer", "step"))
    print(
        f"save of {size / 1e6:,.1f} MB: ours {save:.3f} s, torch.save and fsync {peer:.3f} s, ratio {save / peer:.2f}; "
        f"{100 * save / (INTERVAL * step):.2f} % of {INTERVAL} steps of {1000 * step:.0f} ms; "
        f"2 % from {1000 * save / 0.02 / INTERVAL:.0f} ms a step on"
    )


def first_step(words: list[str]) -> None:
    """Run the command until its first optimizer step has been done."""
    import run
    from lightning_gen.stages import command

    session = command.Session

    def made(*arguments: Any) -> Any:
        from lightning_gen.families.optimisation import Optimisation

        update = Optimisation.update

        def ends(*values: Any) -> None:
            update(*values)
            os._exit(0)

        Optimisation.update = ends
        return session(*arguments)

    command.Session = made
    sys.exit(run.main(words) or 1)


def starts(rounds: int) -> None:
    """Time a new start, a resumed one and the imports alone, each in a process."""
    import run

    with tempfile.TemporaryDirectory() as folder:
        words = [*SMALL, *QUIET]
        if run.main([*words, f"run={folder}/run", "trainer.max_steps=20"]):
            sys.exit(1)
        here = [sys.executable, str(Path(__file__).resolve()), "--first-step"]
        commands = {
            "resumed": [*here, *words, f"run={folder}/run"],
            "new": [*here, *words, f"run={folder}/new", "fresh=true"],
            "imports": [sys.executable, "-c", IMPORTS],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                times[name].append(time.perf_counter() - start)
    resumed, new, imports = (statistics.median(times[name]) for name in commands)
    print(
        f"to the end of the first step: resumed {resumed:.2f} s, new {new:.2f} s, imports alone {imports:.2f} s; "
        f"ratio resumed/new {resumed / new:.2f}, resumed/imports {resumed / imports:.2f}"
    )


def main() -> None:
    """The three figures."""
    if sys.argv[1:2] == ["--first-step"]:
        first_step(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    saves(SMALL, rounds)
    saves(LARGE, rounds)
    starts(rounds)


if __name__ == "__main__":
    main()

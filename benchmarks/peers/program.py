"""What every program here is: its words, the digits, and the file of its samples."""

import argparse
import hashlib
import inspect
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lightning_gen.data import Digits
from lightning_gen.results.store import write_atomically


class Trained(NamedTuple):
    """What a program has after its training.

    Args:
        network: that was trained.
        draw: n -> samples (n, 1, 8, 8) in [0, 1].
        sampler: in words.
        package: whose version is recorded, where there is one.
    """

    network: nn.Module
    draw: Callable[[int], Tensor]
    sampler: str
    package: str = ""


def parser(about: str) -> argparse.ArgumentParser:
    """With the words of every program."""
    made = argparse.ArgumentParser(description=about.split("\n")[0])
    made.add_argument("--steps", type=int, required=True, help="of the optimizer")
    made.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    made.add_argument("--n", type=int, default=1500, help="samples (%(default)s)")
    made.add_argument("--file", type=Path, required=True, help="of the samples, .npz")
    return made


def images() -> Tensor:
    """The training split of the digits, uint8 (1300, 1, 8, 8)."""
    data = Digits()
    data.setup()
    return data.split("train").images(slice(None))


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(os.times()[:4])


def main(train: Callable[[Tensor, argparse.Namespace], Trained], options: argparse.Namespace) -> None:
    """Train, draw, and write samples with steps and CPU seconds of training; a program is begun anew at each call."""
    torch.manual_seed(options.seed)
    data, start = images(), cpu_seconds()
    network, draw, sampler, package = train(data, options)
    seconds = cpu_seconds() - start
    size = sum(p.numel() for p in network.parameters())
    each = 1000 * seconds / options.steps
    print(f"{size:,} parameters, {options.steps} steps, {each:.1f} ms of CPU a step", flush=True)
    drawn = torch.cat([draw(len(part)) for part in torch.arange(options.n).split(250)]).clamp(0, 1)
    print(f"{options.n} samples, {sampler}: {cpu_seconds() - start - seconds:.1f} s of CPU", flush=True)
    file = io.BytesIO()
    program = hashlib.sha256(Path(inspect.getfile(train)).read_bytes()).hexdigest()
    about = {"sampler": sampler, "package": package, "program": program, "steps": options.steps, "seconds": seconds}
    np.savez(file, images=drawn.numpy(), **about)
    options.file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.file, file.getvalue())

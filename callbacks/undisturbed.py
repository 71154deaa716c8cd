"""Measuring beside training: its clock, and nothing of the training moved."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def timed(blocks: Iterator[Any], device: torch.device, seconds: list[float]) -> Iterator[Any]:
    """The same blocks; `seconds` grows by what each took, until its work on the device is done."""
    while True:
        begun = time.perf_counter()
        block = next(blocks, None)
        if block is None:
            return
        if device.type != "cpu":
            torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - begun)
        yield block


@contextmanager
def undisturbed(module: torch.nn.Module) -> Iterator[None]:
    """Training mode and global generators are afterwards what they were: measuring does not move training."""
    modes = {part: part.training for part in module.modules()}
    devices = [module.device] if module.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            for part, mode in modes.items():
                part.training = mode

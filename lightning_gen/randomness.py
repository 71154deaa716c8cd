"""Addressed randomness: every draw is a function of (seed, purpose, address), never of what was drawn before.

So a resumed run repeats an uninterrupted one, evaluation never moves training, and any number of ranks draws the
same images. Purposes in use: order, flip, train, val, sample, dequantise, subset, split, init.
"""

import hashlib

import torch


def address(seed: int, purpose: str, *place: int | str) -> int:
    """63-bit seed of a place: SHA-256 of its name, so that neighbouring places are unrelated."""
    name = "/".join(str(part) for part in (int(seed), purpose, *place))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *place: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device` that depends on nothing but its arguments."""
    return torch.Generator(device=device).manual_seed(address(seed, purpose, *place))


def reseed(seed: int, purpose: str, *place: int | str) -> None:
    """Set the global generators of the CPU and of the devices in use, from which dropout draws."""
    # torch.manual_seed also queues a seed for devices that were never started, with the text of the whole stack: 1 ms.
    number = address(seed, purpose, *place)
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(number)

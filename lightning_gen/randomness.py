"""Addressed randomness: every draw is a function of (seed, purpose, address), independent of earlier draws.

So a resumed run repeats an uninterrupted one, evaluation does not change training, and any number of ranks draws the
same images. Purposes in use: order, flip, train, val, sample, dequantise, subset, split, init.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def derived_seed(seed: int, purpose: str, *address: int | str) -> int:
    """63-bit seed of an address: SHA-256 of its text, so that neighbouring addresses are unrelated."""
    name = "/".join(str(part) for part in (int(seed), purpose, *address))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *address: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device` whose state depends on the arguments alone."""
    return torch.Generator(device=device).manual_seed(derived_seed(seed, purpose, *address))


def reseed(seed: int, purpose: str, *address: int | str) -> None:
    """Seed the global generators of the CPU and of the devices in use, from which dropout draws."""
    # torch.manual_seed takes 1 ms more: for each device not yet initialised it queues a seed with the whole call stack.
    number = derived_seed(seed, purpose, *address)
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(number)


@dataclass(frozen=True)
class PartialBatch:
    """The random numbers of a block of samples of which only the first are computed: drawn for all, then cut.

    So the first n samples are the same for any n.

    Args:
        generator: the generator of the block.
        count: number of samples in the whole block, >= 1.
    """

    generator: torch.Generator
    count: int

    @property
    def device(self) -> torch.device:
        """The device of the generator."""
        return self.generator.device


Source = torch.Generator | PartialBatch | None


def normal(
    shape: Sequence[int], source: Source, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """z ~ N(0, I), `shape` = (B, ...), on `device`, by default that of the source."""
    return _drawn(torch.randn, shape, source, device, dtype)


def uniform(
    shape: Sequence[int], source: Source, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """u uniform on [0, 1), `shape` = (B, ...), on `device`, by default that of the source."""
    return _drawn(torch.rand, shape, source, device, dtype)


def noise_like(x: Tensor, source: Source) -> Tensor:
    """z ~ N(0, I), like x."""
    return normal(x.shape, source, x.device, x.dtype)


def _drawn(draw: Callable[..., Tensor], shape: Sequence[int], source: Source, device: Any, dtype: Any) -> Tensor:
    shape, whole = tuple(shape), shape[0]
    if isinstance(source, PartialBatch):
        source, whole = source.generator, source.count
    device = source.device if device is None and source is not None else device
    x = draw((whole, *shape[1:]), generator=source, device=device, dtype=dtype)
    return x if whole == shape[0] else x[: shape[0]]


def bernoulli(probability: Tensor, generator: torch.Generator | None) -> Tensor:
    """0 or 1 with P(1) = probability, elementwise and in its dtype.

    `rand < p` takes less than half of torch.bernoulli's time on a CPU. There each half of 64 random bits gives the 24
    bits of a float32: the distribution of torch.rand in two thirds of its time.
    """
    if probability.device.type != "cpu" or probability.dtype != torch.float32:
        draw = torch.rand(probability.shape, generator=generator, device=probability.device, dtype=probability.dtype)
        return draw.lt_(probability)
    halves = torch.empty((probability.numel() + 1) // 2, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    bits = halves.view(torch.int32)[: probability.numel()].bitwise_and_(2**24 - 1)
    return bits.to(torch.float32).mul_(2**-24).view(probability.shape).lt_(probability)

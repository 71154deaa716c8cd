"""Addressed randomness: every draw is a function of (seed, purpose, address), independent of earlier draws.

So a resumed run repeats an uninterrupted one, evaluation does not change training, and any number of ranks draws the
same images. Purposes in use: order, flip, train, val, sample, dequantise, subset, split, init.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

UNIT = 64  # samples that share a generator


def derived_seed(seed: int, purpose: str, *address: int | str) -> int:
    """63-bit seed of an address: SHA-256 of its text, so that neighbouring addresses are unrelated."""
    name = "/".join(map(str, (int(seed), purpose, *address)))
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


class Numbered:
    """The random numbers of samples start, ..., start + count - 1.

    Those of a sample depend on (seed, purpose, its number) alone, whatever is drawn with it: UNIT neighbours share a
    generator, which draws for all of them, and those that are not asked for are cut.

    Args:
        seed: of all samples.
        purpose: of the draws, as `generator` takes it.
        start: number of the first sample, >= 0.
        count: of the samples, >= 1.
        device: of the draws.
    """

    def __init__(self, seed: int, purpose: str, start: int, count: int, device: torch.device | str = "cpu") -> None:
        units = range(start // UNIT, -(-(start + count) // UNIT))
        self.generators = [generator(seed, purpose, unit, device=device) for unit in units]
        self.device, self._rows = self.generators[0].device, slice(start % UNIT, start % UNIT + count)

    def draw(self, unit: Callable[[torch.Generator], Tensor]) -> Tensor:
        """What `unit` draws with a generator, (UNIT, ...), for these samples, (count, ...)."""
        drawn = [unit(each) for each in self.generators]
        return (drawn[0] if len(drawn) == 1 else torch.cat(drawn))[self._rows]


Source = torch.Generator | Numbered | None


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
    device = source.device if device is None and source is not None else device
    if isinstance(source, Numbered):
        return source.draw(lambda each: draw((UNIT, *shape[1:]), generator=each, device=device, dtype=dtype))
    return draw(tuple(shape), generator=source, device=device, dtype=dtype)


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

"""How cost grows: three sizes each, their times in turn, and the exponent of a power law through them."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping

import torch

from benchmarks.parts.metrics import features
from benchmarks.parts.network import Ours, node
from benchmarks.parts.sampling import digits_module
from benchmarks.table import Goal, Row, at_most
from benchmarks.timing import Run
from lightning_gen.config.instantiate import build
from lightning_gen.metrics import frechet_of_features, moments
from lightning_gen.samplers import DDIM


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """The slope of log seconds over log size, by least squares."""
    x, y = ([math.log(value) for value in values] for values in (sizes, seconds))
    a, b = statistics.mean(x), statistics.mean(y)
    return sum((p - a) * (q - b) for p, q in zip(x, y, strict=True)) / sum((p - a) ** 2 for p in x)


def fitted(run: Run, what: str, calls: Mapping[int, Callable[[], object]], goal: Goal | None = None) -> Row:
    """The exponent of the medians, with those of the rounds."""
    found, sizes = run.rounds({str(size): call for size, call in calls.items()}), list(calls)
    middle = exponent(sizes, [statistics.median(s) for s in found.values()])
    each = sorted(exponent(sizes, list(s)) for s in zip(*found.values(), strict=True))
    times = ", ".join(f"{1e3 * statistics.median(s):.3g}" for s in found.values())
    return Row(
        f"{what} ({', '.join(map(str, sizes))}), exponent",
        f"of {times} ms",
        middle,
        goal=goal,
        reason="it grows faster than what is asked for",
        rounds=len(each),
        own=(middle, each[0], each[-1]),
    )


def sampling(run: Run) -> Iterator[Row]:
    """Sampling by the number of samples and of steps."""
    block, steps = run.pick(64, 4), run.pick(4, 2)
    module = digits_module(DDIM(steps, clip=(-1.0, 1.0)))
    numbers = {block * k: lambda k=k: module.sample(block * k, size=block) for k in (1, 2, 4)}
    yield fitted(run, "sampling by the number of digits", numbers, at_most(1.05, "ours"))
    longer = {
        k: lambda k=k: module.sample(block, sampler=module.sampler.with_steps(k)) for k in (steps, 2 * steps, 4 * steps)
    }
    yield fitted(run, "sampling by the number of steps", longer, at_most(1.05, "ours"))


def training(run: Run) -> Iterator[Row]:
    """A step by the batch, by the pixels of a side and by the channels."""

    def step(channels: int, side: int, batch: int) -> Callable[[], object]:
        one, x = Ours(build(node("unet_digits", (1, side, side), channels=channels))), torch.randn(batch, 1, side, side)
        return lambda: one.step(x)

    batch = run.pick(32, 2)
    yield fitted(
        run, "a step by the batch", {k: step(16, 8, k) for k in (batch, 2 * batch, 4 * batch)}, at_most(1.05, "ours")
    )
    sides = (8, 16, 32) if not run.tiny else (8, 16)
    yield fitted(
        run, "a step by the pixels of a side", {k: step(16, k, run.pick(16, 2)) for k in sides}, at_most(2.1, "ours")
    )
    yield fitted(
        run, "a step by the channels", {k: step(k, 8, run.pick(16, 2)) for k in (16, 32, 64)}, at_most(2.1, "ours")
    )


def frechet(run: Run) -> Iterator[Row]:
    """The Frechet step by the width of features."""
    calls = {}
    for d in (256, 512, 1024) if not run.tiny else (8, 16, 32):
        x, (mean, cov) = features(2 * d, d, 1), moments(features(2 * d, d, 0))
        calls[d] = lambda x=x, mean=mean, cov=cov: frechet_of_features(x, mean, cov)
    yield fitted(run, "the Fréchet step by the width of 2 d features", calls, at_most(3.1, "ours"))


CASES = (sampling, training)
LONG = (frechet,)

"""The parts that cluster.py takes: what a step is, counted, and what it takes on this machine, measured."""

import os
import tempfile
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from benchmarks.counting import saved_bytes
from benchmarks.hours import ROOT, config_of, operations
from benchmarks.parts import data
from benchmarks.parts.metrics import features, weights
from benchmarks.parts.network import node
from benchmarks.parts.ranks import WORDS, timed
from benchmarks.table import cpu_model
from benchmarks.timing import Run, cpu, matrix_rate, one_thread
from lightning_gen.config.instantiate import build, build_module
from lightning_gen.families.cost import Products
from lightning_gen.families.shards import blocks
from lightning_gen.metrics import InceptionFeatures, frechet_of_features, moments
from lightning_gen.metrics.cache import file_digest

SHAPE, CHANNELS = (3, 32, 32), 128  # ddpm_cifar's
WIDTHS = (1, 2, 4, 8, 16)  # multiples of its channels
FIRST, FURTHER = 2**20, 25 * 2**20  # bytes at which DDP closes the first bucket, and each after it
RUNS = ((32, 2), (128, 2))  # channels, images of a rank
Piece = tuple[int, int]  # parameters, and operations of the backward pass for an image since the piece before


class Work(Products):
    """Counts the bytes that all other operators read and write as well, and the operators; views are none."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = self.operators = 0

    def __torch_dispatch__(self, call: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Call, and count."""
        before, value = self.total, super().__torch_dispatch__(call, types, args, kwargs)
        if any(one.alias_info is not None and not one.alias_info.is_write for one in call._schema.returns):
            return value
        self.operators += 1
        if self.total == before:
            self.moved += sum(leaf.nbytes for leaf in tree_leaves((args, kwargs, value)) if isinstance(leaf, Tensor))
        return value


def inputs(batch: int) -> tuple[Tensor, Tensor]:
    """Images and times."""
    return torch.randn(batch, *SHAPE), torch.full((batch,), 500.0)


def closed(sizes: Sequence[int]) -> list[int]:
    """The bucket of each gradient, of so many bytes in the order in which they are ready: DDP's rule.

    A bucket takes gradients until it has reached its limit.
    """
    found, bucket, held = [], 0, 0
    for size in sizes:
        found.append(bucket)
        held += size
        if held >= (FURTHER if bucket else FIRST):
            bucket, held = bucket + 1, 0
    return found


def units(net: torch.nn.Module) -> dict[Tensor, int]:
    """The unit of each parameter of a block under FSDP, 1, 2, ...; the rest is one more."""
    return {p: index for index, block in enumerate(blocks(net), 1) for p in block.parameters()}


def pieces(ready: Sequence[tuple[Any, int, int]]) -> list[Piece]:
    """(key, parameters, operations until then) in order -> a piece for each key, where its last parameter is ready."""
    size: dict[Any, int] = {}
    until: dict[Any, int] = {}
    for key, parameters, done in ready:
        size[key] = size.get(key, 0) + parameters
        until.pop(key, None)  # the order is that of the last parameters
        until[key] = done
    ends = [0, *until.values()]
    return [(size[key], b - a) for key, a, b in zip(until, ends, ends[1:], strict=False)]


def network(channels: int) -> dict[str, Any]:
    """ddpm_cifar's network with so many channels: parameters, operations for an image, buckets and units.

    Nothing is computed: tensors have shapes alone. The order is that in which gradients become ready.
    """
    ready = []
    with torch.device("meta"):
        net = build(node("unet_cifar", SHAPE, channels=channels))
        of = units(net)
        with Products() as work:
            out = net(*inputs(1)).square().mean()
            forward = work.total
            for p in net.parameters():
                p.register_post_accumulate_grad_hook(lambda p: ready.append((p, p.numel(), work.total - forward)))
            out.backward()
    bucket = closed([4 * size for _, size, _ in ready])
    return {
        "channels": channels,
        "parameters": sum(size for _, size, _ in ready),
        "forward": forward,
        "backward": work.total - forward,
        "buckets": pieces([(key, size, done) for key, (_, size, done) in zip(bucket, ready, strict=True)]),
        "units": pieces([(of.get(p, 0), size, done) for p, size, done in ready]),
    }


def bytes_of(channels: int) -> dict[str, int]:
    """Bytes of float32 for an image of a network with so many channels, and operators of a step: forward, both."""
    net = build(node("unet_cifar", SHAPE, channels=channels))
    with Work() as work:
        out = net(*inputs(1)).square().mean()
        forward = (work.moved, work.operators)
        out.backward()
    kept = saved_bytes(lambda: net(*inputs(1)), net.parameters())
    found = {"channels": channels, "moved_forward": forward[0], "moved": work.moved, "kept": kept}
    return found | {"operators_forward": forward[1], "operators": work.operators}


def inception() -> dict[str, int]:
    """Operations, and bytes of all that is no product, for an image through Inception."""
    with tempfile.TemporaryDirectory() as folder:
        path, _ = weights(folder)
        extractor = InceptionFeatures(str(path), file_digest(path))
        extractor.prepare(type("Data", (), {"name": "random", "shape": SHAPE}))
    with Work() as work:
        extractor(torch.zeros(1, *SHAPE, dtype=torch.uint8))
    return {"operations": work.total, "moved": work.moved}


def recipe(experiment: str) -> dict[str, Any]:
    """Parameters that are trained, operations of a step for an image, and the batch of an experiment."""
    config = config_of(experiment)
    size = sum(p.numel() for player in build_module(config).players() for p in player.parameters)
    return {"parameters": size, "operations": operations(config), "batch": config["data"]["batch_size"]}


def counted() -> dict[str, Any]:
    """All that is counted, the same on every machine."""
    recipes = sorted(path.stem for path in (ROOT / "experiments/experiment").glob("*_cifar.yaml"))
    return {
        "networks": [network(CHANNELS * width) for width in WIDTHS],
        "bytes": bytes_of(CHANNELS),
        "inception": inception(),
        "recipes": {name: recipe(name) for name in recipes},
    }


def copied(run: Run) -> float:
    """Bytes a second, read and written, of a copy that no cache holds; the best of nine."""
    a = torch.zeros(run.pick(2**27, 2**16))
    b = torch.zeros_like(a)
    return 2 * a.nbytes / min(cpu(lambda: b.copy_(a)) for _ in range(9))


def rank_runs(channels: int, batch: int, rounds: int) -> dict[str, Any]:
    """Medians of one and of two ranks, the step's true seconds and those of its parts, and counts of that network."""
    found: dict[str, Any] = {"batch": batch, "network": network(channels), "bytes": bytes_of(channels), "ranks": {}}
    for world in (1, 2):
        load, got = os.getloadavg()[0], timed([*WORDS, f"net.channels={channels}"], world, batch, rounds)
        steps = sorted(got["averaged"])
        found["ranks"][str(world)] = {
            "load": load,
            "step": median(steps),
            "cpu": median(got["cpu"]),
            "quartiles": [steps[len(steps) // 4], steps[-1 - len(steps) // 4]],
            **{name: median(seconds) for name, seconds in got["parts"].items()},
            "reduce": [[int(size), median(s)] for size, s in got["reduce"].items() if s],
            "busy": median(got["busy"] or [0.0]),
        }
    return found


def measured(run: Run, rounds: int = 8) -> dict[str, Any]:
    """All that is measured, on this machine, one thread a process."""
    load, start = os.getloadavg()[0], time.perf_counter()
    runs = [rank_runs(channels, batch, rounds) for channels, batch in (RUNS[:1] if run.tiny else RUNS)]
    with one_thread():
        found = {"products": matrix_rate(), "memory": copied(run)}
        images = {"memory": next(data.memory(run)).ours, "folder": next(data.folder(run)).ours}
        n, d = run.pick(10_000, 40), run.pick(2048, 16)
        x, (mean, cov) = features(n, d, 1), moments(features(n, d, 0))
        frechet = min(cpu(lambda: frechet_of_features(x, mean, cov)) for _ in range(3))
    machine = {"cpu": cpu_model(), "cores": os.cpu_count(), "torch": torch.__version__}
    took = time.perf_counter() - start
    return {**machine, "load": load, "took": took, **found, "images": images, "frechet": frechet, "runs": runs}

"""Memory: bytes that a step keeps for its backward pass, and the most that sampling and evaluating hold at one time."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.counting import Live, saved_bytes
from benchmarks.parts.network import cifar, diffusers_net, node
from benchmarks.parts.sampling import digits_module
from benchmarks.table import Row, at_most, counted
from benchmarks.timing import Run
from lightning_gen.config.instantiate import build
from lightning_gen.data import Digits
from lightning_gen.metrics import ClassifierFeatures
from lightning_gen.samplers import DDIM


def activations(run: Run) -> Iterator[Row]:
    """Bytes that a forward pass keeps, against diffusers' network of the same weights."""
    for what, config in (("CIFAR-10 U-Net", cifar(run)), ("8x8 U-Net", node("unet_digits", (1, 8, 8)))):
        net, batch = build(config), run.pick(8, 2)
        theirs, x, t = diffusers_net(config, net), torch.randn(batch, *config["shape"]), torch.full((batch,), 500.0)
        ours = saved_bytes(lambda: net(x, t), net.parameters())  # noqa: B023
        peer = saved_bytes(lambda: theirs(x, t).sample, theirs.parameters())  # noqa: B023
        yield counted(
            f"{what}, activations kept for a backward pass of {batch}",
            ours / 1e6,
            "MB",
            {"diffusers": peer / 1e6},
            goal=at_most(1.0),
            reason="the dropout keeps its mask as float32, and the inputs of silu are kept beside its outputs",
        )


def peak(call: Callable[[], object]) -> int:
    """The most bytes that a call's tensors held at one time."""
    with Live() as live:
        call()
    return live.peak


def any_number(run: Run) -> Iterator[Row]:
    """The most that sampling and evaluating hold, for N and for 8 N samples."""
    module, extractor, data = digits_module(DDIM(2, clip=(-1.0, 1.0))), ClassifierFeatures(), Digits()
    data.setup()
    extractor.prepare(data)
    block = 64

    def sample(n: int) -> None:
        for _ in module.blocks(n, 0, size=block):
            pass

    def features(n: int) -> Tensor:
        images = (module.decode(x).clamp(0, 1).mul(255).byte() for _, x in module.blocks(n, 0, size=block))
        return torch.cat([extractor(part)[0] for part in images])

    few = run.pick(128, 64)
    for what, call in (("sampling", sample), ("sampling and features", features)):
        call(block)
        most = {n: peak(lambda: call(n)) for n in (few, 8 * few)}  # noqa: B023
        kept = 8 * few * extractor.dim * 4 * 2 if call is features else 0  # the features, and once more as one tensor
        yield counted(
            f"{what} of {8 * few:,} digits in blocks of {block}, the most held at once",
            most[8 * few] / 1e6,
            "MB",
            limit=(f"{few} digits" + " and the features" * bool(kept), (most[few] + kept) / 1e6),
            goal=at_most(1.05, "limit"),
            reason="it grows with the number of samples",
        )


CASES = (activations, any_number)
LONG = ()

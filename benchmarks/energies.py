"""What energies cost beyond the arithmetic that they cannot do without: python benchmarks/energies.py

Each row interleaves ours with a named peer in one process, a round of the one after a round of the other, in CPU time
on one thread, which other programs do not lengthen by waiting; ratios are of the medians over the rounds.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pytorch_lightning import Trainer  # noqa: E402

from callbacks.record import RecordLogger  # noqa: E402
from lightning_gen.data import Digits  # noqa: E402
from lightning_gen.devices import quieten  # noqa: E402
from lightning_gen.families import RBM as Family  # noqa: E402
from lightning_gen.likelihood import RBMPath, log_weights, temperatures  # noqa: E402
from lightning_gen.losses import ContrastiveDivergence  # noqa: E402
from lightning_gen.models import RBM, EnergyNetwork  # noqa: E402
from lightning_gen.nets import ResNetEnergy  # noqa: E402
from lightning_gen.samplers import Gibbs, Langevin  # noqa: E402

VISIBLE, HIDDEN, BATCH = 784, 500, 100


def timed(call: Callable[[], object], times: int) -> float:
    """CPU seconds a call."""
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times


def compare(name: str, ours: Callable, peer: Callable, gate: str, rounds: int, times: int) -> None:
    """Print one row."""
    timed(ours, 2), timed(peer, 2)
    pairs = [(timed(ours, times), timed(peer, times)) for _ in range(rounds)]
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    low, high = min(x / y for x, y in pairs), max(x / y for x, y in pairs)
    print(f"| {name} | {a * 1e3:.2f} | {b * 1e3:.2f} | {a / b:.2f} | {low:.2f} to {high:.2f} | {gate} |", flush=True)


def divergence(rounds: int) -> None:
    """CD-1 with its update against its five products, and against scikit-learn's."""
    from sklearn.neural_network import BernoulliRBM

    model, generator = RBM((VISIBLE,), HIDDEN), torch.Generator().manual_seed(0)
    v = (torch.rand(BATCH, VISIBLE) < 0.2).float()
    h, W = torch.rand(BATCH, HIDDEN), model.W.detach()
    loss, optimizer = ContrastiveDivergence(Gibbs(1)), torch.optim.SGD(model.parameters(), lr=0.01)

    def step() -> None:
        optimizer.zero_grad()
        loss(model, v, generator).mean().backward()
        optimizer.step()

    def gradient() -> None:
        model.zero_grad()
        loss(model, v, generator).mean().backward()

    def products() -> None:
        v @ W, h @ W.T, v @ W, v.T @ h, v.T @ h

    compare("CD-1, gradient / its five products", gradient, products, "at most 1.45", rounds, 20)
    theirs = BernoulliRBM(HIDDEN, batch_size=BATCH, n_iter=1, random_state=0)
    rows = v.numpy()
    theirs.partial_fit(rows)
    compare(
        "CD-1, step / scikit-learn's PCD-1 step", step, lambda: theirs.partial_fit(rows), "at most 0.33", rounds, 20
    )


def annealing(rounds: int) -> None:
    """A temperature of AIS against its two products."""
    model, generator = RBM((VISIBLE,), HIDDEN), torch.Generator().manual_seed(0)
    path, betas, steps = RBMPath(model, torch.zeros(VISIBLE)), temperatures(50), 50
    v, h, W = path.start(BATCH, generator), torch.rand(BATCH, HIDDEN), model.W.detach()

    def products() -> None:
        for _ in range(steps):
            v @ W, h @ W.T

    ours = lambda: log_weights(path, betas, v, generator)  # noqa: E731
    compare("AIS, 50 temperatures / their 100 products", ours, products, "at most 2.2", rounds, 2)


def langevin(rounds: int) -> None:
    """A Langevin step on a network's energy against forward, input gradient and random numbers."""
    model = EnergyNetwork(ResNetEnergy((1, 28, 28), 16, (1, 2, 2), 1), readout="scalar").eval()
    x, generator, sampler = torch.randn(16, 1, 28, 28), torch.Generator().manual_seed(0), Langevin(10, 1e-3)

    def ours() -> None:
        with torch.no_grad():
            sampler(model, x, generator)

    def peer() -> None:
        for _ in range(10):
            place = x.detach().requires_grad_()
            torch.autograd.grad(model.net(place, None).sum(), place)
            torch.randn(x.shape, generator=generator)

    compare("Langevin, 10 steps / gradient and noise alone", ours, peer, "at most 1.2", rounds, 2)


def loop(rounds: int, steps: int = 300) -> None:
    """The Lightning loop around a tiny machine's step, above the bare loop, in microseconds a step."""
    data = Digits(batch_size=20, value_range=(0.0, 1.0), binarise="fixed")
    data.setup()
    pairs = []
    for _ in range(rounds):
        torch.manual_seed(0)
        module = Family(partial(torch.optim.SGD, lr=0.01), data.shape, hidden=8, value_range=data.value_range)
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(
                max_steps=steps,
                logger=RecordLogger(folder),
                log_every_n_steps=50,
                enable_progress_bar=False,
                enable_checkpointing=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                limit_val_batches=0,
                accelerator="cpu",
                use_distributed_sampler=False,
                default_root_dir=folder,
            )
            start = time.process_time()
            trainer.fit(module, datamodule=data)
            ours = (time.process_time() - start) / steps
        model, loss = module.model, module.loss
        optimizer, generator = torch.optim.SGD(model.parameters(), lr=0.01), torch.Generator().manual_seed(0)
        rows = data.encode(data.split("train").take(slice(0, 20)))

        def step() -> None:
            optimizer.zero_grad()  # noqa: B023
            loss(model, rows, generator).mean().backward()  # noqa: B023
            optimizer.step()  # noqa: B023

        pairs.append((ours, timed(step, steps)))
    a, b = (statistics.median(column) * 1e6 for column in zip(*pairs, strict=True))
    print(f"\nLightning's loop over a tiny RBM: {a:,.0f} us a step, bare {b:,.0f}: {a - b:,.0f} above (gate 300)")


def main() -> None:
    """All rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    quieten()
    print("| | ours, ms | peer, ms | ratio | rounds | gate |\n|---|---|---|---|---|---|")
    divergence(rounds)
    annealing(rounds)
    langevin(rounds)
    loop(max(3, rounds // 3))


if __name__ == "__main__":
    main()

"""What energies cost beyond the arithmetic that they cannot do without: python benchmarks/energies.py

Each row interleaves ours with a named peer in one process, a round of the one after a round of the other, in CPU time
on one thread, which other programs do not lengthen by waiting; ratios are of the medians over the rounds.
"""

import argparse
import copy
import ctypes
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch.nn.functional import softplus

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pytorch_lightning import LightningModule, Trainer  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402
from training_step import Rounds, shares  # noqa: E402

from lightning_gen.callbacks.loggers.record import RecordLogger  # noqa: E402
from lightning_gen.data import Digits  # noqa: E402
from lightning_gen.families import RBM as Family  # noqa: E402
from lightning_gen.likelihood import RBMPath, log_weights, temperatures  # noqa: E402
from lightning_gen.losses import RBMContrastiveDivergence  # noqa: E402
from lightning_gen.models import RBM, EnergyNetwork  # noqa: E402
from lightning_gen.nets import ResNetEnergy  # noqa: E402
from lightning_gen.samplers import Gibbs, Langevin  # noqa: E402
from lightning_gen.stages.quiet import quieten  # noqa: E402

VISIBLE, HIDDEN, BATCH = 784, 500, 100


def timed(call: Callable[[], object], times: int) -> float:
    """CPU seconds a call."""
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times


def keep_memory() -> None:
    """Keep freed memory in the process, where its C library can: page faults, which depend on earlier frees, made
    ratios of the same code differ by a fifth."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 2**30), mallopt(-1, 2**31 - 1)  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD


def compare(name: str, ours: Callable, peer: Callable, gate: str, rounds: int, times: int) -> None:
    """Print one row."""
    timed(ours, 2), timed(peer, 2)
    pairs = [(timed(ours, times), timed(peer, times)) for _ in range(rounds)]
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    low, high = min(x / y for x, y in pairs), max(x / y for x, y in pairs)
    print(f"| {name} | {a * 1e3:.2f} | {b * 1e3:.2f} | {a / b:.2f} | {low:.2f} to {high:.2f} | {gate} |", flush=True)


def divergence(rounds: int, calls: int) -> None:
    """CD-1 with its update against its five products, and against scikit-learn's."""
    from sklearn.neural_network import BernoulliRBM

    model, generator = RBM((VISIBLE,), HIDDEN), torch.Generator().manual_seed(0)
    v = (torch.rand(BATCH, VISIBLE) < 0.2).float()
    h, W = torch.rand(BATCH, HIDDEN), model.W.detach()
    loss, optimizer = RBMContrastiveDivergence(Gibbs(1)), torch.optim.SGD(model.parameters(), lr=0.01)

    def step() -> None:
        optimizer.zero_grad()
        loss(model, v, generator).mean().backward()
        optimizer.step()

    def gradient() -> None:
        model.zero_grad()
        loss(model, v, generator).mean().backward()

    def products() -> None:
        v @ W, h @ W.T, v @ W, v.T @ h, v.T @ h

    def by_hand() -> None:
        b, c = model.b.detach(), model.c.detach()
        field = torch.addmm(c, v, W)
        up = field.sigmoid()
        hidden = torch.rand(BATCH, HIDDEN, generator=generator).lt_(up)
        chain = torch.rand(BATCH, VISIBLE, generator=generator).lt_(torch.addmm(b, hidden, W.T).sigmoid_())
        last = torch.addmm(c, chain, W)
        down = last.sigmoid()
        _ = (chain @ b + softplus(last).sum(1)).mean() - (v @ b + softplus(field).sum(1)).mean()
        (chain.T @ down).addmm_(v.T, up, beta=1 / BATCH, alpha=-1 / BATCH)
        (chain - v).mean(0), (down - up).mean(0)

    compare("CD-1, gradient / its five products", gradient, products, "at most 1.45", rounds, 20)
    compare("CD-1, gradient / the same by hand, without autograd", gradient, by_hand, "none", rounds, 20)
    compare("CD-1 by hand / its five products", by_hand, products, "none", rounds, 20)
    if calls:
        parts(gradient, products, calls)
    theirs = BernoulliRBM(HIDDEN, batch_size=BATCH, n_iter=1, random_state=0)
    theirs.partial_fit(v.numpy())  # whose weights are float64 for any data; fit keeps the dtype
    name = "CD-1, step / scikit-learn's PCD-1 step, partial_fit: float64"
    compare(name, step, lambda: theirs.partial_fit(v.numpy()), "at most 0.33", rounds, 20)
    many = (torch.rand(20 * BATCH, VISIBLE) < 0.2).numpy()
    for dtype in ("float64", "float32"):
        rows, fitted = many.astype(dtype), BernoulliRBM(HIDDEN, batch_size=BATCH, n_iter=1, random_state=0)
        name = f"CD-1, 20 steps / scikit-learn's fit, 20 of PCD-1: {dtype}"
        compare(name, lambda: [step() for _ in range(20)], partial(fitted.fit, rows), "at most 0.33", rounds, 1)


def parts(ours: Callable, products: Callable, calls: int) -> None:
    """PyTorch's operators by their own time in `ours`, in units of the peer's five products."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        timed(ours, calls)
    unit = 1e6 * calls * timed(products, calls)
    for event in sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)[:16]:
        print(f"  {event.self_cpu_time_total / unit:6.3f}  {event.count / calls:5.1f} calls  {event.key[:60]}")


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
            point = x.detach().requires_grad_()
            torch.autograd.grad(model.net(point, None).sum(), point)
            torch.randn(x.shape, generator=generator)

    compare("Langevin, 10 steps / gradient and noise alone", ours, peer, "at most 1.2", rounds, 2)


class Bare:
    """The loop over a tiny RBM as one writes it by hand: one generator, nothing checked or recorded."""

    def __init__(self, module: Family, rows: torch.Tensor, batch: int) -> None:
        self.model, self.loss = copy.deepcopy(module.model), copy.deepcopy(module.loss)
        self.rows, self.batch, self.generator = rows, batch, torch.Generator().manual_seed(0)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.batches = self.order()

    def order(self) -> Iterator[torch.Tensor]:
        """Full batches of one epoch after another."""
        while True:
            order = torch.randperm(len(self.rows), generator=self.generator)
            for start in range(0, len(order) - self.batch + 1, self.batch):
                yield self.rows[order[start : start + self.batch]]

    def step(self) -> None:
        """One optimizer step."""
        self.optimizer.zero_grad()
        self.loss(self.model, next(self.batches), self.generator).mean().backward()
        self.optimizer.step()


class Plain(LightningModule):
    """The same step as Lightning's smallest module: what is left above the bare loop is Lightning's own."""

    def __init__(self, bare: Bare) -> None:
        super().__init__()
        self.model, self.loss, self.generator = bare.model, bare.loss, bare.generator

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        """The loss of a batch."""
        return self.loss(self.model, batch, self.generator).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The bare loop's."""
        return torch.optim.SGD(self.model.parameters(), lr=0.01)


def loop(rounds: int, steps: int, profile: int, rows: int) -> None:
    """The Lightning loop around a tiny RBM's step, above the bare loop, in microseconds a step."""
    data = Digits(batch_size=20, value_range=(0.0, 1.0), binarise="fixed")
    data.setup()
    torch.manual_seed(0)
    x = data.encode(data.split("train").take(slice(None)))

    batches = torch.utils.data.DataLoader(list(x.split(20))[:-1], batch_size=None)

    def tiny_rbm() -> Family:
        return Family(partial(torch.optim.SGD, lr=0.01), data.shape, hidden=8, value_range=data.value_range)

    print()
    overheads = []
    for name, module, source, gate in (
        ("our module in Lightning's loop", tiny_rbm(), {"datamodule": data}, "gate 300"),
        ("the smallest module in it", Plain(Bare(tiny_rbm(), x, 20)), {"train_dataloaders": batches}, "no gate"),
    ):
        watch = Rounds(Bare(tiny_rbm(), x, 20), rounds, steps, profile if isinstance(module, Family) else 0)
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(
                max_steps=watch.last,
                logger=RecordLogger(folder),
                callbacks=[watch],
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
            trainer.fit(module, **source)
        watch.profiler.disable()  # or it would profile the next measurement
        a, b = (1e6 * statistics.median(times) for times in (watch.ours, watch.theirs))
        above = sorted(1e6 * (one - other) for one, other in zip(watch.ours, watch.theirs, strict=True))
        spread = f"{above[0]:,.0f} to {above[-1]:,.0f}"
        print(f"tiny RBM, {name}: {a:,.0f} us a step, bare {b:,.0f}: {a - b:,.0f} above ({spread}; {gate})", flush=True)
        overheads.append(a - b)
        if profile and isinstance(module, Family):
            shares(watch.profiler, profile, rows)
    print(f"ours above the bare loop / Lightning's smallest module above it: {overheads[0] / overheads[1]:.2f}")


def main() -> None:
    """All rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each pair (%(default)s)")
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="profile N calls of CD-1 and of the loop")
    options = parser.parse_args()
    rounds = options.rounds
    keep_memory()
    torch.set_num_threads(1)
    quieten()
    print("| | ours, ms | peer, ms | ratio | rounds | gate |\n|---|---|---|---|---|---|")
    with threadpool_limits(1):  # scikit-learn's products, too
        divergence(rounds, options.profile)
    annealing(rounds)
    langevin(rounds)
    loop(rounds, 100, options.profile, 40)


if __name__ == "__main__":
    main()

"""Our training step against a bare PyTorch loop of the same mathematics: python benchmarks/training_step.py

Both train in one process, a round of steps of the one after a round of the other, so that other load of the computer
affects both; times are the process's CPU time on one thread, which other programs do not lengthen by waiting. Ours is
all of a step as Lightning takes it: fetching, hooks, addressed noise, loss, clipping, health, Adam, the average, the
record. The ratio is of the medians over the rounds; the overhead is their difference.
"""

import argparse
import copy
import cProfile
import math
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning import Callback, Trainer
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lightning_gen.callbacks.loggers.record import RecordLogger  # noqa: E402
from lightning_gen.config.instantiate import build  # noqa: E402
from lightning_gen.data import Digits, GenerativeData, Rings  # noqa: E402
from lightning_gen.families import DDPM  # noqa: E402
from lightning_gen.process import linear_betas  # noqa: E402
from lightning_gen.stages.quiet import quieten  # noqa: E402

LEVELS, DECAY, CLIP = 1000, 0.9999, 1.0
adam = partial(torch.optim.Adam, lr=1e-4, fused=True)


class Bare:
    """DDPM's loop as one writes it by hand: tables in single precision, one generator, nothing checked or logged."""

    def __init__(self, net: nn.Module, rows: Tensor, batch: int) -> None:
        self.net, self.rows, self.batch = net, rows, batch
        self.parameters = list(net.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimizer = adam(self.parameters)
        self.generator = torch.Generator().manual_seed(0)
        kept = torch.cumprod(1 - torch.tensor(linear_betas(LEVELS), dtype=torch.float64), 0)
        self.alpha, self.sigma = kept.sqrt().float(), (1 - kept).sqrt().float()
        self.batches = self.order()

    def order(self) -> Iterator[Tensor]:
        """Full batches of one epoch after another."""
        while True:
            order = torch.randperm(len(self.rows), generator=self.generator)
            for start in range(0, len(order) - self.batch + 1, self.batch):
                yield self.rows[order[start : start + self.batch]]

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """L_simple, ()."""
        k = torch.randint(1, LEVELS + 1, (len(x),), generator=generator) - 1
        noise = torch.randn(x.shape, generator=generator)
        one = (-1,) + (1,) * (x.ndim - 1)
        noised = self.alpha[k].view(one) * x + self.sigma[k].view(one) * noise
        return nn.functional.mse_loss(self.net(noised, k.float()), noise)

    def step(self) -> None:
        """One optimizer step and the average's."""
        loss = self.loss(next(self.batches), self.generator)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - DECAY)


class Rounds(Callback):
    """Times `steps` whole steps of the trainer, from batch end to batch end, then as many of the bare loop."""

    def __init__(self, bare: Bare, rounds: int, steps: int, profile: int) -> None:
        self.bare, self.rounds, self.steps = bare, rounds, steps
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.profiler = cProfile.Profile()
        self.warm, self.last = 2 * steps, (rounds + 2) * steps + profile

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Change loops at the end of a round; profile the steps after the rounds."""
        step, now = trainer.global_step, time.process_time()
        if step == self.last:
            self.profiler.disable()
        if step % self.steps or len(self.ours) == self.rounds:
            return
        if step > self.warm:
            self.ours.append((now - self.start) / self.steps)
        start = time.process_time()
        for _ in range(self.steps):
            self.bare.step()
        if step > self.warm:
            self.theirs.append((time.process_time() - start) / self.steps)
        if len(self.ours) == self.rounds and step < self.last:
            self.profiler.enable()
        self.start = time.process_time()


def measure(net: nn.Module, data: GenerativeData, rounds: int, steps: int, profile: int) -> Rounds:
    """Train both, and the times of both per step in seconds."""
    data.setup()
    split = data.split("train")
    rows = split.points(slice(None)) if data.value_range is None else data.encode(split.images(slice(None)))
    bare = Bare(copy.deepcopy(net), rows, data.batch_size)
    module = DDPM(net, adam, steps=LEVELS, ema_decay=DECAY, shape=data.shape, value_range=data.value_range)
    same(module, bare, rows[: data.batch_size])
    watch = Rounds(bare, rounds, steps, profile)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            default_root_dir=folder,
            max_steps=watch.last,
            gradient_clip_val=CLIP,
            log_every_n_steps=50,
            limit_val_batches=0,
            logger=[RecordLogger(folder)],
            callbacks=[watch],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            inference_mode=False,
        )
        trainer.fit(module, datamodule=data)
    return watch


def same(module: DDPM, bare: Bare, x: Tensor) -> None:
    """ValueError where equal weights and random numbers give different losses."""
    module.model.eval(), bare.net.eval()
    with torch.no_grad():
        ours = module.loss(module.model, x, torch.Generator().manual_seed(1)).mean().item()
        theirs = bare.loss(x, torch.Generator().manual_seed(1)).item()
    module.model.train(), bare.net.train()
    if not math.isclose(ours, theirs, rel_tol=1e-4):
        raise ValueError(f"the two loops have losses {ours} and {theirs} for equal draws: they are not the same loop")


def shares(profiler: cProfile.Profile, steps: int, most: int) -> None:
    """The functions of this repository and of Lightning with the largest time, callees included, per step."""
    stats = pstats.Stats(profiler)
    rows = [
        (cumulative, own, calls, Path(file).name, name)
        for (file, _, name), (_, calls, own, cumulative, _) in stats.stats.items()
        if "lightning" in file or "/callbacks/" in file
    ]
    print(f"  {'us/step':>8} {'own':>7} {'calls':>6}  under cProfile, which makes Python look about twice as slow")
    for cumulative, own, calls, file, name in sorted(rows, reverse=True)[:most]:
        print(f"  {1e6 * cumulative / steps:8.0f} {1e6 * own / steps:7.0f} {calls / steps:6.1f}  {file}:{name}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each loop (%(default)s)")
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="profile N more steps of ours")
    parser.add_argument("--rows", type=int, default=40, help="rows of the profile (%(default)s)")
    options = parser.parse_args()
    quieten()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    digits = {**yaml.safe_load((ROOT / "experiments/net/unet_digits.yaml").read_text()), "shape": [1, 8, 8]}
    tiny = {"_target_": "lightning_gen.nets.MLP", "shape": [2], "width": 16, "depth": 1}
    rings = Rings(batch_size=128, n=20_000, val_size=100, test_size=100)
    cases = [("U-Net, 8x8 digits", digits, Digits(batch_size=128), 20), ("MLP, 2-D rings", tiny, rings, 100)]
    print(f"{'':18} {'ours ms':>8} {'bare ms':>8} {'ratio':>6} {'rounds':>13} {'overhead us':>12}")
    for name, config, data, steps in cases:
        watch = measure(build(config), data, options.rounds, steps, options.profile)
        ours, bare = statistics.median(watch.ours), statistics.median(watch.theirs)
        ratios = sorted(a / b for a, b in zip(watch.ours, watch.theirs, strict=True))
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(
            f"{name:18} {1e3 * ours:8.3f} {1e3 * bare:8.3f} {ours / bare:6.2f} {spread:>13} {1e6 * (ours - bare):12.0f}"
        )
        if options.profile:
            shares(watch.profiler, options.profile, options.rows)


if __name__ == "__main__":
    main()

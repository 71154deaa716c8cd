"""Modules that draw from a known law and features that are cheap, for the tests of Quality and of the samplers' table.

As a program: `python -m tests.callbacks.quality_parts quality|table FOLDER`, in two processes under torchrun.
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from lightning_gen.callbacks.quality import Quality
from lightning_gen.callbacks.sampler_table import SamplerTable
from lightning_gen.data import Digits
from lightning_gen.errors import NonFinite
from lightning_gen.families.base import GenerativeModule
from lightning_gen.metrics import FeatureExtractor
from lightning_gen.models import Scored
from lightning_gen.process import VP, Process, expand
from lightning_gen.randomness import generator
from lightning_gen.samplers import DDIM, MALA, RK45, Sampler
from tests.callbacks.trainers import trainer


class Projection(FeatureExtractor):
    """A fixed linear map to 6 features, and logits that are another."""

    name, dim, classes = "projection", 6, 4

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def prepare(self, data: Any, rank: int = 0, broadcast: Any = None) -> None:
        """Draw the map."""
        maps = torch.randn(64, 10, generator=generator(0, "projection")) / 8
        self.maps = {"features": maps[:, :6], "logits": 5 * maps[:, 6:]}

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits."""
        self.seen.append(images)
        x = images.float().flatten(1) / 255
        return x @ self.maps["features"], x @ self.maps["logits"]

    def identity(self) -> dict[str, Any]:
        """What it is."""
        return {"features": "projection"}


class Noisy(LightningModule):
    """Samples: noise about the middle of the range, beyond it at places; its own behaviour as rude as it can be."""

    shape, value_range, seed, classes = (1, 8, 8), (-1.0, 1.0), 0, None

    def __init__(self, bad_block: int | None = None, ema: bool = True) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(8))
        self.ema = torch.nn.Linear(1, 1) if ema else None
        self.sampler = SimpleNamespace(describe=lambda: {"name": "noise"})
        self.bad_block, self.asked, self.autocast = bad_block, [], []

    def decode(self, x: Tensor) -> Tensor:
        """[-1, 1] to [0, 1]."""
        return (x + 1) / 2

    def draw(self, block: int, size: int) -> Tensor:
        """A block by its address."""
        x = 0.7 * torch.randn(size, *self.shape, generator=generator(5, "sample", block))
        if block == self.bad_block:
            x[0, 0, 0, 0] = float("nan")
        return x

    def block_size(self, n: int, sampler: Any = None) -> int:
        """Samples that are drawn together."""
        return 64

    def work(self, n: int, sampler: Any = None, size: int = 64, rank: int = 0, world: int = 1) -> int:
        """One step per block."""
        return len(range(rank, -(-n // size), world))

    def blocks(
        self,
        n: int,
        seed: int,
        sampler: Any = None,
        weights: str = "ema",
        size: int = 64,
        rank: int = 0,
        world: int = 1,
        progress: Any = None,
        counts: list[int] | None = None,
    ):
        """Draws by address, while it also moves the global generator and its own mode."""
        self.asked.append((n, seed, weights, size))
        for block in range(rank, -(-n // size), world):
            torch.rand(3)
            self.train()
            self.autocast.append(torch.is_autocast_enabled("cpu"))
            progress()
            counts.append(1 + block)
            yield block * size, self.draw(block, size)[: n - block * size]

    def training_step(self, batch: dict, batch_idx: int) -> Tensor:
        """Draws from the global generator, as dropout would."""
        return (self.weight * torch.rand(8)).sum() + self.weight.square().sum()

    def validation_step(self, batch: dict, batch_idx: int) -> None:
        """Nothing."""

    def test_step(self, batch: dict, batch_idx: int) -> None:
        """Nothing."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD."""
        return torch.optim.SGD([self.weight], lr=0.1)


class Isotropic(Scored):
    """The exact model of images N(0, 0.3^2 I): E[x_0 | x_t] = 0.09 alpha x / (0.09 alpha^2 + sigma^2)."""

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | x_t = x]."""
        alpha, variance = self.process.alpha(t), self.process.variance(t)
        return expand(0.09 * alpha / (0.09 * alpha**2 + variance), x) * x


def exact(process: Process | None = None) -> GenerativeModule:
    """A trained module: its model is right."""
    model = Isotropic(VP() if process is None else process)
    module = GenerativeModule(model, None, torch.optim.SGD, sampler=DDIM(2), shape=(1, 8, 8), value_range=(-1.0, 1.0))
    module.trained_steps = 70
    return module


def tabulate(folder: Path, samplers: dict[str, Sampler], module: Any = None, **options: Any) -> GenerativeModule:
    """The test stage with Quality of 150 samples and a table."""
    names = ("evaluations", "tolerances", "n", "seed")
    table = SamplerTable(samplers, **{name: options.pop(name) for name in names if name in options})
    features = options.pop("features", None) or Projection()
    quality = Quality(features, n=150, kid_subsets=5, kid_subset_size=40, cache=str(folder.parent / "cache"))
    module = exact() if module is None else module
    trainer(folder, [table, quality], **options).test(module, datamodule=Digits(), verbose=False)
    return module


def measure(folder: Path, n: int, reference: str = "train", **options: Any) -> None:
    """The test stage, n samples."""
    quality = Quality(
        Projection(), n=n, reference=reference, kid_subsets=5, kid_subset_size=40, cache=str(folder / "cache")
    )
    trainer(folder / str(n), quality, **options).test(Noisy(), datamodule=Digits(), verbose=False)


def two_ranks(folder: Path) -> None:
    """150 samples in three blocks; 50 in one, so that rank 1 has none; and a NaN that only rank 1 sees."""
    options = {"devices": 2, "strategy": "ddp"}
    measure(folder, 150, **options)
    measure(folder, 50, **options)
    quality = Quality(Projection(), n=150, cache=str(folder / "cache"))
    runner = trainer(folder / "nan", quality, **options)
    try:
        runner.test(Noisy(bad_block=1), datamodule=Digits(), verbose=False)
    except NonFinite as error:
        (folder / f"stopped-{runner.global_rank}").write_text(str(error))
    torch.distributed.barrier()  # else the first to leave tears the other's connection
    torch.distributed.destroy_process_group()


def two_ranks_table(folder: Path) -> None:
    """150 samples by three samplers, one of which does not fit; twice, so that the rows are found again."""
    for _ in range(2):
        samplers = {"ddim": DDIM(), "rk45": RK45(), "mala": MALA()}
        tabulate(folder / "table", samplers, evaluations=[4], tolerances=[0.1], devices=2, strategy="ddp")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    {"quality": two_ranks, "table": two_ranks_table}[sys.argv[1]](Path(sys.argv[2]))

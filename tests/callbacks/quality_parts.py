"""A module that draws from a known law and features that are cheap, for the tests of Quality; and the two-rank run.

As a program: `python -m tests.callbacks.quality_parts FOLDER`, in two processes under torchrun.
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from callbacks.quality import Quality
from lightning_gen.data import Digits
from lightning_gen.metrics import FeatureExtractor
from lightning_gen.randomness import generator
from lightning_gen.result import NonFinite


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
            counts.append(1)
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


def trainer(folder: Path, quality: Quality | None, **options: Any) -> Trainer:
    """A silent trainer with one callback."""
    settings = {"accelerator": "cpu", "devices": 1, "logger": False, "barebones": False, **options}
    return Trainer(
        default_root_dir=folder,
        callbacks=[] if quality is None else [quality],
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        **settings,
    )


def measure(folder: Path, n: int, **options: Any) -> None:
    """The test stage, n samples."""
    quality = Quality(Projection(), n=n, kid_subsets=5, kid_subset_size=40, cache=str(folder / "cache"))
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


if __name__ == "__main__":
    two_ranks(Path(sys.argv[1]))

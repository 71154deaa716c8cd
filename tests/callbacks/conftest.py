"""A generative module small enough that the callbacks' laws can be checked exactly: x = a picture of its index."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from tests.callbacks.trainers import trainer


class Known(LightningModule):
    """Sample i of block b is known beforehand; the trajectory goes from 0.5 to it in `length` steps."""

    def __init__(self, shape: tuple[int, ...] = (1, 4, 4), length: int = 10, spoil: bool = False) -> None:
        super().__init__()
        self.shape = self.model_shape = shape
        self.value_range = None if len(shape) == 1 else (-1.0, 1.0)
        self.length, self.spoil, self.sampler, self.last_loss = length, spoil, Fixed(), None
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.ema = torch.nn.Linear(1, 1)
        self.asked: list[str] = []
        self.seen: list[int] = []

    def target(self, n: int, seed: int) -> Tensor:
        x = torch.rand(n, *self.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        return x * torch.nan if self.spoil else x

    def block_size(self, n: int, sampler: Any = None) -> int:
        """Samples that are drawn together."""
        return 64

    def work(self, n: int, sampler: Any = None, size: int = 64, **_: Any) -> int:
        return -(-n // size) * self.length

    def blocks(
        self,
        n: int,
        seed: int,
        sampler: Any = None,
        weights: str = "ema",
        progress: Callable[[], Any] | None = None,
        **_: Any,
    ) -> Iterator[tuple[int, Tensor]]:
        self.asked.append(weights)
        x = self.target(n, seed)
        for start in range(0, n, 64):
            yield start, x[start : start + 64]

    def log_snr(self, n: int) -> list[float]:
        return [0.0] * (self.length + 1)

    def trajectory(self, n: int, seed: int, weights: str = "ema") -> Iterator[Tensor]:
        for k in range(self.length + 1):
            yield k / self.length * self.target(n, seed)

    def decode(self, x: Tensor) -> Tensor:
        return (x + 1) / 2

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return (self.weight * batch["x"]).square().mean()

    def on_train_batch_end(self, *_: Any) -> None:
        self.last_loss = 1 / max(self.trainer.global_step, 1)
        self.seen.append(self.trainer.global_step)
        for logger in self.trainer.loggers:
            logger.log_metrics({"train/loss": self.last_loss, "epoch": self.current_epoch}, self.trainer.global_step)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        pass

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], lr=0.0)


class Fixed:
    def describe(self) -> dict[str, Any]:
        return {"name": "Fixed", "steps": 10}


class Rows(torch.utils.data.Dataset):
    """Eight rows of numbers: with batches of two, four steps an epoch."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"x": torch.full((3,), float(i)), "index": torch.tensor(i)}


def loader() -> DataLoader:
    return DataLoader(Rows(), batch_size=2)


@pytest.fixture
def known() -> type[Known]:
    return Known


@pytest.fixture
def rows() -> Callable[[], DataLoader]:
    return loader


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """A quiet CPU trainer whose run folder is tmp_path."""

    def make(*callbacks: Any, loggers: list | None = None, **options: Any) -> Trainer:
        settings = {"max_epochs": 2, "num_sanity_val_steps": 0, "logger": loggers or False}
        return trainer(tmp_path, callbacks, **settings | options)

    return make

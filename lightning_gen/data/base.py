"""What every data set shares: splits that never overlap, the range of model space, and the loaders."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from lightning_gen.data.loader import OrderedLoader, TrainerEpoch, TrainLoader, coin
from lightning_gen.data.split import Split
from lightning_gen.options import Checked, Count, Natural, ValueRange
from lightning_gen.randomness import generator

SplitName = Literal["train", "val", "test"]
Binarisation = Literal["fixed", "stochastic", "threshold"]


def hold_out(count: int, size: int, name: str, key: str = "val_size") -> tuple[Tensor, Tensor]:
    """Indices (kept, held out) of `count` rows, both ascending; held-out rows do not move with the run's seed."""
    if not 0 <= size < count:
        raise ValueError(
            f"{key} needs a number between 0 and {count - 1}, of the {count} samples there are, got {size}"
        )
    shuffled = torch.randperm(count, generator=generator(0, "split", name, key))
    return shuffled[size:].sort().values, shuffled[:size].sort().values


class GenerativeData(Checked, LightningDataModule, ABC):
    """A data set with its range: x = low + (high - low) image, image in [0, 1]; value_range None leaves x = image.

    `batch_size` counts the samples of all ranks together. Making one reads nothing; `prepare_data` downloads,
    `setup` reads. Batches are dicts: x (B, ...) in model space, index (B,), and label (B,) where there are labels.

    binarise makes images of 0 and 255 of them: `threshold` at 1/2; `fixed`, each pixel once by a coin of its intensity,
    the same for every seed; `stochastic`, anew by (seed, epoch, batch, rank) to train, fixed where it is measured.
    On the quantitative analysis of deep belief networks (Salakhutdinov & Murray, 2008) draws once, IWAE anew.
    """

    name: str = ""
    classes: int | None = None
    _shape: tuple[int, ...] = ()

    def __init__(
        self,
        batch_size: Count = 128,
        seed: Natural = 0,
        flip: bool = False,
        value_range: ValueRange | None = (-1.0, 1.0),
        binarise: Binarisation | None = None,
    ):
        super().__init__()
        if value_range is not None and not value_range[0] < value_range[1]:
            raise ValueError(
                f"{type(self).__name__}.value_range is {list(value_range)}, expected low < high: exchange them"
            )
        # Under DDP a small validation split may leave a rank without any batch.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.batch_size, self.seed, self.flip, self.binarise = batch_size, seed, flip, binarise
        self.value_range = None if value_range is None else (float(value_range[0]), float(value_range[1]))
        self._splits: Mapping[str, Split] | None = None
        self._trained: Split | None = None  # with its shades, where each batch is binarised

    @abstractmethod
    def load(self) -> Mapping[str, Split]:
        """Read the splits train, val and test; val and test may be empty."""

    def setup(self, stage: str | None = None) -> None:
        """Read the data, once; a trainer's stage needs a test split: Lightning skips every hook of an empty one."""
        if self._splits is None:
            splits = self.load()
            self._trained = splits["train"] if self.binarise == "stochastic" else None
            if self.binarise:
                splits = {name: self._binary(split, name) for name, split in splits.items()}
            self._splits = splits
        if stage is not None and not len(self.split("test")):
            raise ValueError(f"the test split of {self.name} is empty, and a run is evaluated on it: set test_size > 0")

    def split(self, name: SplitName) -> Split:
        """The rows of one split, on the CPU."""
        if self._splits is None:
            raise RuntimeError(f"the data set {self.name} is not read yet: call prepare_data() and setup() first")
        if name not in self._splits:
            raise ValueError(f"split needs one of train, val, test, got {name!r}")
        return self._splits[name]

    def _binary(self, split: Split, name: str) -> Split:
        """The split with every value 0 or 255; the same for every seed."""
        coins = generator(0, "binarise", self.name, name)
        parts = []
        for start in range(0, len(split), 4096):
            images = split.images(slice(start, start + 4096))
            parts.append(coin(images, coins) if self.binarise != "threshold" else (images > 127).byte() * 255)
        return Split(torch.cat(parts) if parts else split.images(slice(None)), split.labels(slice(None)))

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W), or (2,) for points; a set that does not know it is read."""
        if not self._shape:
            self.setup()
        return self._shape or self.split("train").shape

    def encode(self, images: Tensor) -> Tensor:
        """uint8 images to x in model space, float32."""
        if images.dtype != torch.uint8:
            raise TypeError(f"encode needs uint8 images, got {images.dtype}")
        x = images.float() / 255
        if self.value_range is None:
            return x
        low, high = self.value_range
        return x if (low, high) == (0, 1) else low + (high - low) * x

    def decode(self, x: Tensor) -> Tensor:
        """x in model space to images, in [0, 1] for data, not clamped for samples."""
        if self.value_range is None:
            return x
        low, high = self.value_range
        return (x - low) / (high - low)

    def _place(self) -> tuple[int, int, torch.device]:
        """Rank, number of ranks and device of the trainer, or of a plain process."""
        if self.trainer is None:
            return 0, 1, torch.device("cpu")
        return self.trainer.global_rank, self.trainer.world_size, self.trainer.strategy.root_device

    def transfer_batch_to_device(self, batch: dict[str, Tensor], device: torch.device, dataloader_idx: int) -> Any:
        """The batch as it is: its loader has put it there, and Lightning's look at each tensor costs a tiny step."""
        return batch

    def train_dataloader(self) -> TrainLoader:
        """Full batches, shuffled anew each epoch; the last incomplete one is dropped."""
        if self.trainer is not None and self.trainer.overfit_batches:
            raise ValueError(
                f"overfit_batches {self.trainer.overfit_batches} would still shuffle: "
                "leave it at 0 and train on a smaller data set"
            )
        loader = TrainLoader(
            self.split("train") if self._trained is None else self._trained,
            self.encode,
            self.batch_size,
            *self._place(),
            seed=self.seed,
            flip=self.flip,
            binarise=self.binarise == "stochastic",
        )
        if self.trainer is not None:
            loader.set_epoch(self.trainer.current_epoch)
            loader.sampler = TrainerEpoch(loader, self.trainer)
        return loader

    def val_dataloader(self) -> OrderedLoader | list[OrderedLoader]:
        """The validation split in its order, or no loader where it is empty."""
        return self._ordered("val")

    def test_dataloader(self) -> OrderedLoader | list[OrderedLoader]:
        """The test split in its order, or no loader where it is empty."""
        return self._ordered("test")

    def _ordered(self, name: SplitName) -> OrderedLoader | list[OrderedLoader]:
        split = self.split(name)
        if len(split) == 0:
            return []
        return OrderedLoader(split, self.encode, self.batch_size, *self._place())

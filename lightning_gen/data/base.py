"""The base of data sets: disjoint splits, the range of model space, and the loaders."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from lightning_gen.data.loader import OrderedLoader, TrainerEpoch, TrainLoader, binarised
from lightning_gen.data.split import Split
from lightning_gen.options import Checked, Count, Natural, ValueRange
from lightning_gen.randomness import generator

SplitName = Literal["train", "val", "test"]
Binarisation = Literal["fixed", "stochastic", "threshold"]


def hold_out(count: int, size: int, name: str, key: str = "val_size") -> tuple[Tensor, Tensor]:
    """Indices of rows that stay and of those held out, ascending, the same for every seed; ValueError if all are."""
    if not 0 <= size < count:
        raise ValueError(f"{key} is {size}, expected 0 to {count - 1} of the {count} samples: write a smaller one")
    shuffled = torch.randperm(count, generator=generator(0, "split", name, key))
    return shuffled[size:].sort().values, shuffled[:size].sort().values


def partition(whole: Split, name: str, **sizes: int) -> dict[str, Split]:
    """The split train, and val_size=N and test_size=N rows of it as splits val and test, in the order of `sizes`."""
    rows, parts = torch.arange(len(whole)), {}
    for key, size in sizes.items():
        train, held_out = hold_out(len(rows), size, name, key)
        rows, parts[key.removesuffix("_size")] = rows[train], rows[held_out]
    return {split: whole.subset(indices) for split, indices in ({"train": rows} | parts).items()}


class GenerativeData(Checked, LightningDataModule, ABC):
    """A data set with its range: x = low + (high - low) image, image in [0, 1]; value_range None leaves x = image.

    The constructor reads nothing; `prepare_data` downloads, `setup` reads. Batches are dicts: x (B, ...) in model
    space, index (B,), and label (B,) where there are labels. Binarised pixels are Bernoulli, 255 with probability
    pixel / 255: drawn once in On the quantitative analysis of deep belief networks (Salakhutdinov & Murray, 2008),
    https://doi.org/10.1145/1390156.1390266, anew in each epoch in IWAE (Burda et al., 2016).

    Args:
        batch_size: samples of a step, all ranks together.
        seed: of the order, of flips and of stochastic binarisation.
        flip: mirror each training image left-right with probability 1/2.
        value_range: (low, high) of model space; null for x = image.
        binarise: threshold at 1/2; fixed, drawn once, the same for every seed; stochastic, drawn by (seed, epoch,
            batch, rank) in training, fixed in validation and test; null keeps the grey levels.
    """

    name: str = ""
    classes: int | None = None
    autoencoder: Any = None  # a trained one, whose latent variables a model is of, and its config
    autoencoder_node: Mapping[str, Any] | None = None
    _shape: tuple[int, ...] = ()
    _levels = 256  # grey levels of an image as it is stored

    def __init__(
        self,
        batch_size: Count = 128,
        seed: Natural = 0,
        flip: bool = False,
        value_range: ValueRange | None = (-1.0, 1.0),
        binarise: Binarisation | None = None,
    ) -> None:
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
        self._trained: Split | None = None  # with its grey levels, where each batch is binarised

    def check_files(self) -> None:
        """Raise what a look at the files tells, before any is downloaded or read whole; of a sweep, all jobs' at once.

        Nothing for data without files.
        """

    def chosen(self) -> dict[str, Any]:
        """The arguments whose values the data choose themselves, once they are read."""
        return {}

    def introduced(self) -> str:
        """The data in words, for the first line of a run, and what was chosen from them."""
        return self.name

    def check_source(self) -> None:
        """FileNotFoundError where data are to be downloaded and nobody answers; files that are here are read anyway."""

    @abstractmethod
    def load(self) -> Mapping[str, Split]:
        """Read the splits train, val and test; val and test may be empty."""

    def setup(self, stage: str | None = None) -> None:
        """Read the data, once; ValueError for an empty test split in a stage: Lightning would skip its hooks."""
        if self._splits is None:
            splits = self.load()
            self._trained = splits["train"] if self.binarise == "stochastic" else None
            if self.binarise:
                splits = {name: self._binary(split, name) for name, split in splits.items()}
            self._splits = splits
        if stage is not None and not len(self.split("test")):
            raise ValueError(
                f"the test split of {self.name} is empty, expected samples to evaluate: add some, or set data.test_size"
            )

    def split(self, name: SplitName) -> Split:
        """One split, on the CPU; RuntimeError before `setup`."""
        if self._splits is None:
            raise RuntimeError(f"the data set {self.name} is not read yet: call prepare_data() and setup() first")
        if name not in self._splits:
            raise ValueError(f"split is {name!r}, expected train, val or test: write one of these")
        return self._splits[name]

    def identity(self, cache: Path | None = None) -> str:
        """What tells the training data from others when a run is resumed; digests of files are kept in `cache`."""
        return self.split("train").identity(cache)

    def changed(self, identity: str, known: str) -> str:
        """In words, that the training data have this identity and were known by another when a run began."""
        return f"the content of the training data {self.name} has the fingerprint {identity}, expected {known}"

    def _binary(self, split: Split, name: str) -> Split:
        """The split with every value 0 or 255; the same for every seed."""
        source = generator(0, "binarise", self.name, name)
        parts = []
        for start in range(0, len(split), 4096):
            images = split.images(slice(start, start + 4096))
            parts.append(binarised(images, source) if self.binarise != "threshold" else (images > 127).byte() * 255)
        return Split(torch.cat(parts) if parts else split.images(slice(None)), split.labels(slice(None)))

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W), or (2,) for points; `setup` runs where only the data say it."""
        if not self._shape:
            self.setup()
        return self._shape or self.split("train").shape

    @property
    def levels(self) -> int | None:
        """The number of values K that a pixel may have; None for points."""
        return None if self.value_range is None else 2 if self.binarise else self._levels

    def encode(self, images: Tensor) -> Tensor:
        """x in model space, float32, of uint8 images; whole numbers where value_range is (0, levels - 1).

        TypeError for another dtype.
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"encode got {images.dtype}, expected uint8 images: pass images of a split")
        x = images.float().div_(255)
        if self.value_range is None:
            return x
        low, high = self.value_range
        if (low, high) == (0, self.levels - 1) and high > 1:
            return x.mul_(high).round_()
        return x if (low, high) == (0, 1) else x.mul_(high - low).add_(low)

    def decode(self, x: Tensor) -> Tensor:
        """Images of x in model space, in [0, 1] for data, not clamped for samples."""
        if self.value_range is None:
            return x
        low, high = self.value_range
        return (x - low) / (high - low)

    def _rank_and_device(self) -> tuple[int, int, torch.device]:
        """Rank, number of ranks and device of the trainer, or of a plain process."""
        if self.trainer is None:
            return 0, 1, torch.device("cpu")
        return self.trainer.global_rank, self.trainer.world_size, self.trainer.strategy.root_device

    def transfer_batch_to_device(self, batch: dict[str, Tensor], device: torch.device, dataloader_idx: int) -> Any:
        """The batch itself: its loader has put it on the device, and Lightning's search for tensors costs time."""
        return batch

    def train_dataloader(self) -> TrainLoader:
        """Full batches, shuffled in each epoch, the last incomplete one dropped; under overfit_batches always the
        same order, of which the trainer takes the first batches."""
        loader = TrainLoader(
            self.split("train") if self._trained is None else self._trained,
            self.encode,
            self.batch_size,
            *self._rank_and_device(),
            seed=self.seed,
            flip=self.flip,
            binarise=self.binarise == "stochastic",
            repeat=self.trainer is not None and bool(self.trainer.overfit_batches),
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
        return OrderedLoader(split, self.encode, self.batch_size, *self._rank_and_device())

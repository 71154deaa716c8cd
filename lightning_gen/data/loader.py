"""Batches of a split, indexed, flipped and scaled on the device: no copy of the set, no worker, no collation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_gen.data.split import Split
from lightning_gen.randomness import generator


def binarised(images: Tensor, generator: torch.Generator) -> Tensor:
    """255 with probability image / 255, else 0, of uint8 images on any device, drawn on the CPU."""
    draw = torch.rand(images.shape, generator=generator).to(images.device, non_blocking=True)
    return (draw * 255 < images).byte() * 255


@dataclass(eq=False)
class OrderedLoader:
    """Every row of a split once, in its order: exactly N rows over all ranks, without padding.

    Of a global batch of m rows, rank r of w takes the rows m r // w to m (r + 1) // w; a rank without rows in the
    last batch has one batch less.

    Args:
        split: the rows.
        encode: from stored rows to model space.
        batch_size: rows of a global batch, all ranks together.
        rank: of this process, from 0.
        world: number of ranks.
        device: of the batches; a split in memory is copied there.
    """

    split: Split
    encode: Callable[[Tensor], Tensor]
    batch_size: int
    rank: int = 0
    world: int = 1
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        self.split, self.device = self.split.to(self.device), torch.device(self.device)

    def __len__(self) -> int:
        full, rest = divmod(len(self.split), self.batch_size)
        return full + (self._share(rest).stop > self._share(rest).start)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        order = torch.arange(len(self.split), device=self.split.device)
        indices = [self._indices(order, batch) for batch in range(len(self))]
        for index, rows in zip(indices, self.split.stream(indices), strict=True):
            yield self._batch(index, rows.to(self.device, non_blocking=True))

    def _share(self, size: int) -> slice:
        """This rank's part of a global batch of `size` rows."""
        return slice(size * self.rank // self.world, size * (self.rank + 1) // self.world)

    def _indices(self, order: Tensor, batch: int) -> Tensor:
        """This rank's indices of the global batch number `batch`, (b,)."""
        rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        return rows[self._share(len(rows))]

    def _batch(self, index: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """x in model space, index, and label where the split has labels."""
        batch = {"x": self.encode(rows), "index": index.to(self.device, non_blocking=True)}
        label = self.split.labels(index)
        if label is not None:
            batch["label"] = label.to(self.device, non_blocking=True)
        return batch


class TrainerEpoch:
    """The `sampler` of a loader in a trainer: `set_epoch` sets the loader to the trainer's current epoch.

    Lightning passes the number of epochs processed. After a resume from a checkpoint of the end of an epoch, under
    max_steps, that number stays one too high, and the order of a whole epoch would be skipped.

    Args:
        loader: of the training batches.
        trainer: Lightning's, with current_epoch.
    """

    def __init__(self, loader: "TrainLoader", trainer: Any) -> None:
        self.loader, self.trainer = loader, trainer

    def set_epoch(self, processed: int) -> None:
        """Go to the trainer's current epoch; `processed` is ignored."""
        self.loader.set_epoch(self.trainer.current_epoch)


@dataclass(eq=False)
class TrainLoader(OrderedLoader):
    """Full batches in an order that depends on (seed, epoch) alone: the same global batches for any number of ranks.

    Iteration continues from (epoch, batch), which `state_dict` saves, and ends at the start of the next epoch. One
    iterator at a time; checkpoints are saved between two batches.

    Args:
        seed: of the order, of flips and of binarisation.
        flip: mirror each image left-right with probability 1/2.
        epoch: where iteration starts.
        binarise: draw each pixel, 255 with probability pixel / 255, else 0.
        repeat: whether every epoch has the order of the first one.
    """

    seed: int = 0
    flip: bool = False
    epoch: int = 0
    binarise: bool = False
    repeat: bool = False

    def __post_init__(self) -> None:
        size, rows, ranks = self.batch_size, len(self.split), self.world
        if rows < size:
            raise ValueError(
                f"batch_size is {size}, expected at most the {rows} training samples: set data.batch_size <= {rows}"
            )
        if size % ranks:
            raise ValueError(
                f"batch_size is {size}, expected a number divisible by {ranks} ranks: set a multiple of {ranks}"
            )
        super().__post_init__()
        self.batch = 0
        # Lightning calls set_epoch of a loader's `sampler`, never of the loader.
        self.sampler: TrainLoader | TrainerEpoch = self

    def __len__(self) -> int:
        return len(self.split) // self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of `epoch`; in the current epoch keep the batch, which a resume has loaded."""
        if epoch != self.epoch:
            self.epoch, self.batch = epoch, 0

    # A generator starts at its first `next`: Lightning calls iter() BEFORE load_state_dict and set_epoch.
    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        epoch = self.epoch
        order = torch.randperm(len(self.split), generator=generator(self.seed, "order", 0 if self.repeat else epoch))
        order = order.to(self.split.device)
        batches = range(self.batch, len(self))
        indices = [self._indices(order, batch) for batch in batches]
        for batch, index, rows in zip(batches, indices, self.split.stream(indices), strict=True):
            rows = self._flip(rows.to(self.device, non_blocking=True), epoch, batch)
            if self.binarise:
                rows = binarised(rows, generator(self.seed, "binarise", epoch, batch, self.rank))
            # Counted before the yield: a checkpoint saved after this step continues with the next batch.
            self.batch = batch + 1
            yield self._batch(index, rows)
        self.set_epoch(epoch + 1)

    def _flip(self, rows: Tensor, epoch: int, batch: int) -> Tensor:
        """Each image mirrored left-right with probability 1/2, (b, C, H, W)."""
        if not self.flip:
            return rows
        source = generator(self.seed, "flip", epoch, batch, self.rank)
        mirrored = (torch.rand(len(rows), generator=source) < 0.5).to(self.device, non_blocking=True)
        chosen = torch.arange(len(rows), device=self.device) + len(rows) * mirrored
        return torch.cat([rows, rows.flip(-1)]).index_select(0, chosen)  # in a third of torch.where's time for bytes

    def state_dict(self) -> dict[str, int]:
        """Epoch and next batch, with the sizes that they depend on."""
        return {"epoch": self.epoch, "batch": self.batch, "batch_size": self.batch_size, "samples": len(self.split)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where `state` was saved, with any number of ranks; ValueError for other sizes."""
        for key, value in (("batch_size", self.batch_size), ("samples", len(self.split))):
            if state[key] != value:
                raise ValueError(
                    f"{key} is {value}, expected {state[key]} as in the checkpoint: set it back, or start a new run"
                )
        self.epoch, self.batch = state["epoch"], state["batch"]

"""Batches of a split, indexed, flipped and scaled on the device: no copy of the set, no worker, no collation."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from lightning_gen.data.split import Split
from lightning_gen.randomness import generator


def coin(images: Tensor, generator: torch.Generator) -> Tensor:
    """255 with probability image / 255, else 0, of uint8 images on any device; the coins are the CPU's."""
    draw = torch.rand(images.shape, generator=generator).to(images.device, non_blocking=True)
    return (draw * 255 < images).byte() * 255


class OrderedLoader:
    """Every row once, in the order of the split: exactly N rows over all ranks, none repeated to fill up.

    Of a global batch of m rows, rank r of w takes the rows m r // w to m (r + 1) // w; a rank without rows in the
    last batch has one batch less.
    """

    def __init__(
        self,
        split: Split,
        encode: Callable[[Tensor], Tensor],
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ):
        self.split = split.to(device)
        self.encode = encode
        self.batch_size = batch_size
        self.rank = rank
        self.world = world
        self.device = torch.device(device)

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
        """x in model space, index, and label where there is one."""
        batch = {"x": self.encode(rows), "index": index.to(self.device, non_blocking=True)}
        label = self.split.labels(index)
        if label is not None:
            batch["label"] = label.to(self.device, non_blocking=True)
        return batch


class TrainerEpoch:
    """Stands as a loader's `sampler` and sets it to the epoch that the trainer is in.

    Lightning passes the number of epochs processed instead. After a resume from a checkpoint of the end of an epoch,
    under max_steps, that number runs one ahead for ever, and a whole epoch's order would be passed over.
    """

    def __init__(self, loader: "TrainLoader", trainer: Any):
        self.loader, self.trainer = loader, trainer

    def set_epoch(self, processed: int) -> None:
        """Go to the trainer's current epoch."""
        self.loader.set_epoch(self.trainer.current_epoch)


class TrainLoader(OrderedLoader):
    """Full batches in an order that is a function of (seed, epoch) alone, so any number of ranks sees the same ones.

    The loader IS its position: iterating goes on from (epoch, batch), which `state_dict` saves, and a finished pass
    moves on to the next epoch. One iterator at a time; a checkpoint belongs between two batches.
    """

    def __init__(
        self,
        split: Split,
        encode: Callable[[Tensor], Tensor],
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
        seed: int = 0,
        flip: bool = False,
        epoch: int = 0,
        binarise: bool = False,
    ):
        if len(split) < batch_size:
            raise ValueError(
                f"batch_size {batch_size} is more than the {len(split)} training samples, so no step could be made: "
                f"set batch_size <= {len(split)}"
            )
        if batch_size % world:
            raise ValueError(
                f"batch_size {batch_size} counts the samples of all ranks together and is not divisible by {world} "
                f"ranks: set a multiple of {world}"
            )
        super().__init__(split, encode, batch_size, rank, world, device)
        self.seed = seed
        self.flip = flip
        self.binarise = binarise
        self.epoch = epoch
        self.batch = 0
        # Lightning looks for set_epoch on a loader's `sampler`, never on the loader.
        self.sampler: TrainLoader | TrainerEpoch = self

    def __len__(self) -> int:
        return len(self.split) // self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of `epoch`; in that epoch already, stay at the batch reached, which a resume needs."""
        if epoch != self.epoch:
            self.epoch, self.batch = epoch, 0

    # A generator starts at its first `next`: Lightning calls iter() BEFORE load_state_dict and set_epoch.
    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        epoch = self.epoch
        order = torch.randperm(len(self.split), generator=generator(self.seed, "order", epoch))
        order = order.to(self.split.device)
        batches = range(self.batch, len(self))
        indices = [self._indices(order, batch) for batch in batches]
        for batch, index, rows in zip(batches, indices, self.split.stream(indices), strict=True):
            rows = self._flip(rows.to(self.device, non_blocking=True), epoch, batch)
            if self.binarise:
                rows = coin(rows, generator(self.seed, "binarise", epoch, batch, self.rank))
            # Counted before the yield: whoever saves now has this batch in hand and needs the next.
            self.batch = batch + 1
            yield self._batch(index, rows)
        self.set_epoch(epoch + 1)

    def _flip(self, rows: Tensor, epoch: int, batch: int) -> Tensor:
        """Each image mirrored left-right with probability 1/2, (b, C, H, W)."""
        if not self.flip:
            return rows
        place = generator(self.seed, "flip", epoch, batch, self.rank)
        mirrored = (torch.rand(len(rows), generator=place) < 0.5).to(self.device, non_blocking=True)
        return torch.where(mirrored.reshape(-1, *[1] * (rows.ndim - 1)), rows.flip(-1), rows)

    def state_dict(self) -> dict[str, int]:
        """The next batch, and what it would be meaningless without."""
        return {"epoch": self.epoch, "batch": self.batch, "batch_size": self.batch_size, "samples": len(self.split)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state` was saved, with any number of ranks."""
        for key, value in (("batch_size", self.batch_size), ("samples", len(self.split))):
            if state[key] != value:
                raise ValueError(
                    f"the checkpoint was saved with {key} {state[key]} and cannot go on with {value}: "
                    f"set it back, or start a new run"
                )
        self.epoch, self.batch = state["epoch"], state["batch"]

"""Samples from a folder or file in place of a trained module."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from lightning_gen.data.samples import read_samples
from lightning_gen.randomness import UNIT
from lightning_gen.runs.faults import samples_fault


class GivenSamples(LightningModule):
    """A module without weights, whose samples are those of a file or folder, in order.

    Args:
        path: folder of images, or a file with an array (.npz, .npy, .pt, .pth).
        shape: shape of a sample, as of the data: images are uint8, points float.
        name: name of the data, for messages.
    """

    ema, classes, trained_steps = None, None, 0

    def __init__(self, path: str, shape: Sequence[int], name: str = "the data") -> None:
        super().__init__()
        self.shape, self.path = tuple(shape), Path(path)
        if fault := samples_fault(self.path):
            raise FileNotFoundError(fault)
        given = read_samples(self.path, self.shape, name)
        self.rows, self.quantisation, self.sampler, self.understood = given
        if len(self.rows) < 2:
            raise ValueError(f"{path} holds {len(self.rows)} sample, expected at least 2: add samples")
        self.model = torch.nn.Module()

    def about(self) -> dict[str, Any]:
        """Source, fingerprint and number of the samples, as a protocol stores them."""
        digest = hashlib.sha256(f"{tuple(self.rows.shape)} {self.rows.dtype}".encode())
        for part in self.rows.split(1024):
            digest.update(part.contiguous().numpy().tobytes())
        return {
            "source": f"somebody else's: {self.path}",
            "images_fingerprint": digest.hexdigest()[:16],
            "given": len(self.rows),
            "sampler": self.sampler,
            "weights": "unknown",
            "guidance": "unknown",
            "quantisation": self.quantisation,
        }

    def block_size(self, n: int, sampler: Any = None) -> int:
        """Samples that are read together."""
        return UNIT

    def work(self, n: int, sampler: Any = None, size: int | None = None, rank: int = 0, world: int = 1) -> int:
        """Number of blocks of this rank."""
        size = size or self.block_size(n)
        return len(range(rank, -(-n // size), world))

    def blocks(
        self,
        n: int,
        seed: int = 0,
        sampler: Any = None,
        weights: Any = None,
        size: int | None = None,
        rank: int = 0,
        world: int = 1,
        progress: Callable[[], Any] | None = None,
        counts: list[int] | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """(start index, samples as stored) of this rank's blocks of the first n."""
        size = size or self.block_size(n)
        for index in range(rank, -(-n // size), world):
            yield index * size, self.rows[index * size : min(index * size + size, n)].to(self.device)
            if progress is not None:
                progress()
            if counts is not None:
                counts.append(0)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Nothing: the callbacks measure."""

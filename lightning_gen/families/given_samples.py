"""Somebody else's samples, a folder of images or an .npz, in the place of a trained module."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from lightning_gen.data.samples import read_samples
from lightning_gen.runs.folder import samples_fault


class GivenSamples(LightningModule):
    """Stands where a trained module would: its samples are those of `path`, in their order, and it has no weights.

    `shape` is the data's: images are uint8 of that shape, points float. What is not is refused, nothing is converted.
    """

    ema, classes, trained_steps = None, None, 0

    def __init__(self, path: str, shape: Sequence[int], name: str = "the data") -> None:
        super().__init__()
        self.shape, self.path = tuple(shape), Path(path)
        if wrong := samples_fault(self.path):
            raise FileNotFoundError(wrong)
        self.rows, self.quantisation, self.sampler = read_samples(self.path, self.shape, name)
        if len(self.rows) < 2:
            raise ValueError(f"{path} holds {len(self.rows)} sample, a measurement needs at least 2: give more")
        self.model = torch.nn.Module()

    def about(self) -> dict[str, Any]:
        """What is known of where the samples come from."""
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

    def work(self, n: int, sampler: Any = None, size: int = 64, rank: int = 0, world: int = 1) -> int:
        """Blocks of this rank."""
        return len(range(rank, -(-n // size), world))

    def blocks(
        self,
        n: int,
        seed: int = 0,
        sampler: Any = None,
        weights: Any = None,
        size: int = 64,
        rank: int = 0,
        world: int = 1,
        progress: Callable[[], Any] | None = None,
        counts: list[int] | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """(start, samples as they were given) of this rank's blocks of the first n."""
        for index in range(rank, -(-n // size), world):
            yield index * size, self.rows[index * size : min(index * size + size, n)].to(self.device)
            if progress is not None:
                progress()
            if counts is not None:
                counts.append(0)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Nothing: the callbacks measure."""

"""One split of a data set: rows by index, and a fingerprint of the content."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

Indices = Tensor | slice | Sequence[int]


class Split:
    """Rows in memory.

    Args:
        rows: uint8 images (n, C, H, W) or float points (n, D).
        labels: whole numbers (n,), or null.
    """

    def __init__(self, rows: Tensor, labels: Tensor | None = None) -> None:
        if rows.dtype != torch.uint8 and not rows.is_floating_point():
            raise TypeError(f"rows of a split are {rows.dtype}, expected uint8 images or float points: convert them")
        if labels is not None and len(labels) != len(rows):
            raise ValueError(
                f"a split got {len(labels)} labels, expected one for each of {len(rows)} rows: pass as many"
            )
        self._rows = rows
        self._labels = None if labels is None else labels.long()
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W), or (D,) for points."""
        return tuple(self._rows.shape[1:])

    @property
    def device(self) -> torch.device:
        """The device of the rows."""
        return self._rows.device

    def to(self, device: torch.device | str) -> "Split":
        """The same rows on `device`."""
        labels = None if self._labels is None else self._labels.to(device)
        return Split(self._rows.to(device), labels)

    def subset(self, indices: Tensor) -> "Split":
        """The split of the rows `indices`, (n,)."""
        return Split(self._rows[indices], self.labels(indices))

    def take(self, indices: Indices) -> Tensor:
        """Rows as they are stored, (n, ...)."""
        if not isinstance(indices, Tensor):
            return self._rows[indices]
        # On a CPU it copies whole rows, where rows[indices] copies byte by byte, in twenty times the time.
        return self._rows.index_select(0, indices.to(self.device))

    def images(self, indices: Indices) -> Tensor:
        """uint8, (n, C, H, W), in [0, 255]; TypeError for a split of points."""
        rows = self.take(indices)
        if rows.dtype != torch.uint8:
            raise TypeError("this split holds points, not images: call points(indices)")
        return rows

    def points(self, indices: Indices) -> Tensor:
        """float, (n, D); TypeError for a split of images."""
        rows = self.take(indices)
        if rows.dtype == torch.uint8:
            raise TypeError("this split holds images, not points: call images(indices)")
        return rows

    def labels(self, indices: Indices) -> Tensor | None:
        """int64, (n,), or None for data without labels."""
        if self._labels is None:
            return None
        return self._labels[indices.to(self._labels.device) if isinstance(indices, Tensor) else indices]

    def stream(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """The rows of each batch of indices, in order."""
        return (self.take(indices) for indices in batches)

    def fingerprint(self) -> str:
        """The first 16 hex characters of the SHA-256 of rows and labels."""
        if self._fingerprint is None:
            digest = hashlib.sha256(f"{len(self)} {self.shape}".encode())
            blocks = [torch.arange(start, min(start + 1024, len(self))) for start in range(0, len(self), 1024)]
            for rows in self.stream(blocks):
                digest.update(f"{rows.dtype}".encode())
                digest.update(rows.cpu().contiguous().numpy().tobytes())
            labels = self.labels(slice(None))
            digest.update(b"none" if labels is None else labels.cpu().numpy().tobytes())
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    def identity(self, cache: Path | None = None) -> str:
        """What tells these data from others when a run is resumed: their fingerprint, which needs no cache folder."""
        return self.fingerprint()

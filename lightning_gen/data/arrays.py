"""Images from one NumPy archive."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_gen.data.base import GenerativeData, partition
from lightning_gen.data.files import read_arrays
from lightning_gen.data.split import Split
from lightning_gen.options import LocalPath, Natural

ARRAYS = ("x_train", "x_test", "y_train", "y_test")
REMEDY = "write it anew with numpy.savez"


class Npz(GenerativeData):
    """A `.npz` with x_train and x_test, uint8 (N, H, W) or (N, H, W, 1 or 3); if labelled, y_train and y_test too.

    The layout is that of Keras' mnist.npz (Chollet et al., 2015), https://keras.io/api/datasets/mnist

    Args:
        path: of the archive; its stem names the data set.
        val_size: images of x_train that are held out, the same for every seed.
    """

    def __init__(self, path: LocalPath, *, val_size: Natural = 0, **options: Any) -> None:
        super().__init__(**options)
        self.path = Path(path)
        self.name = self.path.stem
        self.val_size = val_size

    def prepare_data(self) -> None:
        """FileNotFoundError where the file is missing."""
        if not self.path.is_file():
            raise FileNotFoundError(f"data.path={self.path} is not a file: set data.path to a .npz that is one")

    def check_files(self) -> None:
        """FileNotFoundError for no file, Unreadable for a damaged end, ValueError for other arrays; none is read."""
        self.prepare_data()
        self._check_names(read_arrays(self.path, (), REMEDY)[1])

    def _check_names(self, names: Sequence[str]) -> None:
        if not {"x_train", "x_test"} <= {*names} or ("y_train" in names) != ("y_test" in names):
            raise ValueError(
                f"{self.path} holds {', '.join(names) or 'nothing'}, expected x_train and x_test, and y_train and "
                f"y_test both or neither: {REMEDY}"
            )

    def load(self) -> Mapping[str, Split]:
        """The splits; Unreadable for a damaged file, ValueError for arrays of another layout."""
        self.prepare_data()
        arrays, names = read_arrays(self.path, ARRAYS, REMEDY)
        self._check_names(names)
        parts = {part: self._part(arrays, part) for part in ("train", "test")}
        images, labels = parts["train"]
        if images.shape[1:] != parts["test"][0].shape[1:]:
            raise ValueError(
                f"{self.path}: x_train and x_test hold images (C, H, W) of {tuple(images.shape[1:])} and "
                f"{tuple(parts['test'][0].shape[1:])}, expected one shape: {REMEDY}"
            )
        self.classes = None if labels is None else 1 + max(int(part[1].max()) for part in parts.values())
        return partition(Split(images, labels), "npz", val_size=self.val_size) | {"test": Split(*parts["test"])}

    def _part(self, arrays: Mapping[str, Any], part: str) -> tuple[Tensor, Tensor | None]:
        """Images (n, C, H, W) and labels (n,) or None."""
        images = arrays[f"x_{part}"]
        channels_last = images.ndim == 4 and images.shape[-1] in (1, 3)
        if images.dtype != "uint8" or not (images.ndim == 3 or channels_last) or len(images) == 0:
            raise ValueError(
                f"{self.path}: x_{part} is {images.dtype} {images.shape}, expected images, uint8 (N, H, W), "
                "(N, H, W, 1) or (N, H, W, 3): convert them, or write a data set of your own (docs/tutorial/data.md)"
            )
        pixels = torch.from_numpy(images)
        pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
        if f"y_{part}" not in arrays:
            return pixels, None
        labels = arrays[f"y_{part}"]
        if labels.dtype.kind not in "iu" or labels.size != len(images) or labels.min() < 0:
            raise ValueError(
                f"{self.path}: y_{part} is {labels.dtype} {labels.shape}, expected {len(images)} whole numbers >= 0: "
                f"{REMEDY}"
            )
        return pixels, torch.from_numpy(labels.astype("int64").reshape(-1))

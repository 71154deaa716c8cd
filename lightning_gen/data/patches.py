"""Natural image patches at CIFAR's size without a download."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor

from lightning_gen.data.base import GenerativeData
from lightning_gen.data.split import Split
from lightning_gen.options import Count, Natural
from lightning_gen.randomness import generator

CELL = 64
SPLITS = ("train", "val", "test")


def photographs() -> Tensor:
    """china.jpg and flower.jpg, uint8, (2, 3, 427, 640)."""
    import numpy
    from sklearn.datasets import load_sample_images

    return torch.from_numpy(numpy.stack(load_sample_images().images)).permute(0, 3, 1, 2).contiguous()


def pixel_splits(height: int, width: int) -> Tensor:
    """The split of each pixel, an index into SPLITS, (height, width).

    Cells of 64x64 along diagonals, one in ten for val and two in ten for test, so that every split has sky and
    ground, petal and leaf. A strip too narrow for a cell belongs to its neighbour.
    """
    rows = (torch.arange(height) // CELL).clamp(max=height // CELL - 1).unsqueeze(1)
    columns = (torch.arange(width) // CELL).clamp(max=width // CELL - 1)
    diagonal = (3 * rows + columns) % 10
    return (diagonal == 3).long() + 2 * ((diagonal == 0) | (diagonal == 5)).long()


class Patches(GenerativeData):
    """Patches of two colour photographs, label 0 (china) or 1 (flower).

    Each split has cells of the photographs, and its patches lie wholly inside them: no pixel is in two splits.
    Positions are drawn without replacement; patches of one split overlap.
    The sample images of scikit-learn (Pedregosa et al., 2011), https://scikit-learn.org/stable/datasets/loading_other_datasets.html

    Args:
        seed: of the positions, the order and flips.
        n: training patches.
        val_size: validation patches.
        test_size: test patches.
        size: height and width of a patch, pixels, 1 to 64.
    """

    name = "patches"
    classes = 2

    def __init__(
        self,
        *,
        n: Count = 50_000,
        val_size: Natural = 1_000,
        test_size: Natural = 10_000,
        size: Annotated[int, Interval(ge=1, le=CELL)] = 32,
        **options: Any,
    ) -> None:
        super().__init__(binarise=None, **options)
        self.size, self.counts = size, {"train": n, "val": val_size, "test": test_size}
        self._shape = (3, size, size)

    def load(self) -> Mapping[str, Split]:
        """The patches of each split; ValueError for more of them than positions."""
        photos = photographs()
        return {name: self._cut(photos, name) for name in SPLITS}

    def _cut(self, photos: Tensor, name: str) -> Split:
        """Patches whose pixels all belong to the split `name`."""
        foreign = (pixel_splits(*photos.shape[-2:]) != SPLITS.index(name)).float()[None]
        for window in ((self.size, 1), (1, self.size)):
            foreign = F.max_pool2d(foreign, window, stride=1)
        inside = foreign == 0
        positions = torch.nonzero(inside.expand(len(photos), -1, -1))
        count = self.counts[name]
        if count > len(positions):
            key = {"train": "n", "val": "val_size", "test": "test_size"}[name]
            raise ValueError(
                f"{key} is {count}, expected at most {len(positions)}, the positions of {self.size}x{self.size} "
                "patches: write a smaller one"
            )
        drawn = torch.randperm(len(positions), generator=generator(self.seed, "patches", name))[:count]
        photo, top, left = positions[drawn].unbind(1)
        windows = photos.unfold(2, self.size, 1).unfold(3, self.size, 1)  # (photos, C, tops, lefts, size, size), a view
        return Split(windows[photo, :, top, left], photo)

"""Handwritten digits without a download."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Interval

from lightning_gen.data.base import GenerativeData, partition
from lightning_gen.data.split import Split

TRAIN = 1437  # held-out ones included
TEST = 360


class Digits(GenerativeData):
    """1,797 scanned digits of 8x8 pixels, 0..16 scaled to 0..255, as scikit-learn ships them.

    The test split is always the same random 360 (a fifth).
    Optical recognition of handwritten digits (Alpaydin & Kaynak, 1998), https://doi.org/10.24432/C50P49

    Args:
        val_size: of the other 1,437 images, those held out, the same for every seed.
    """

    name = "digits"
    classes = 10
    _shape = (1, 8, 8)
    _levels = 17

    def __init__(self, *, val_size: Annotated[int, Interval(ge=0, lt=TRAIN)] = 137, **options: Any) -> None:
        super().__init__(**options)
        self.val_size = val_size

    def load(self) -> Mapping[str, Split]:
        """1300 train, 137 val and 360 test by default."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = (torch.as_tensor(digits.images) * 255 / 16).round().to(torch.uint8).unsqueeze(1)
        # At random: a test split with equal classes would have a lower distance than samples of the true density.
        whole = Split(images, torch.as_tensor(digits.target))
        return partition(whole, self.name, test_size=TEST, val_size=self.val_size)

"""Samples beside the training images that are nearest to them: what was learnt by heart is seen at once."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_gen.metrics.distances import nearest
from lightning_gen.metrics.reference import Reference
from lightning_gen.results.drawing import strip


def nearest_neighbours(
    images: Tensor, features: Tensor, split: Any, train: Reference, rows: int = 10, near: int = 5
) -> np.ndarray:
    """Of the given samples those nearest to a training image, and their neighbours -> uint8 (H, W, C).

    A row a sample, the nearest first; the sample stands left of its `near` nearest training images.
    """
    near = min(near, len(train.features))
    squares, index = nearest(features, train.features.to(features.device), near)
    order = squares[:, 0].argsort(stable=True)[:rows].cpu()
    index, images = index.cpu(), images.cpu()
    tiles = torch.stack([torch.cat([images[i : i + 1], split.images(index[i]).cpu()]) for i in order.tolist()])
    return strip(np.ascontiguousarray(tiles.permute(0, 1, 3, 4, 2).numpy()))

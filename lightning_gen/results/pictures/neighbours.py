"""Samples beside the training images that are nearest to them: what was learnt by heart is seen at once."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_gen.metrics.distances import nearest
from lightning_gen.metrics.reference import Reference
from lightning_gen.results.drawing import WIDTH, grid, side_by_side


def nearest_neighbours(
    images: Tensor, features: Tensor, split: Any, train: Reference, rows: int = 10, near: int = 5
) -> np.ndarray:
    """Of the given samples those nearest to a training image, and their neighbours -> uint8 (H, W, C).

    A row a sample, the nearest first; half a tile parts the sample from its `near` nearest training images.
    """
    near = min(near, len(train.features))
    squares, index = nearest(features, train.features.to(features.device), near)
    order = squares[:, 0].argsort(stable=True)[:rows].cpu()
    index, images = index.cpu(), images.cpu()
    samples = images[order].permute(0, 2, 3, 1).numpy()
    neighbours = torch.cat([split.images(index[i]).cpu() for i in order.tolist()]).permute(0, 2, 3, 1).numpy()
    width = samples.shape[2]
    scale = max(1, -(-WIDTH // ((near + 1) * width)))
    return side_by_side(grid(samples, 1, scale), grid(neighbours, near, scale), scale * width // 2)

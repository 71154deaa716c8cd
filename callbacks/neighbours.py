"""Samples beside the training images that are nearest to them: what was learnt by heart is seen at once."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Trainer
from torch import Tensor

from lightning_gen.callbacks.publish import log_image, step_of
from lightning_gen.metrics.distances import nearest
from lightning_gen.metrics.reference import Reference
from lightning_gen.results.drawing import save_png, strip


def draw_neighbours(
    trainer: Trainer, images: Tensor, features: Tensor, split: Any, train: Reference, rows: int = 10, near: int = 5
) -> Path:
    """samples/neighbours-<step>.png: of the given samples those nearest to a training image, and their neighbours.

    A row a sample, the nearest first; the sample stands left of its `near` nearest training images.
    """
    near = min(near, len(train.features))
    squares, index = nearest(features, train.features.to(features.device), near)
    order = squares[:, 0].argsort(stable=True)[:rows].cpu()
    index, images = index.cpu(), images.cpu()
    shown = torch.stack([torch.cat([images[i : i + 1], split.images(index[i]).cpu()]) for i in order.tolist()])
    picture = strip(np.ascontiguousarray(shown.permute(0, 1, 3, 4, 2).numpy()))
    path = save_png(Path(trainer.default_root_dir) / "samples" / f"neighbours-{step_of(trainer):08d}.png", picture)
    log_image(trainer, "samples/neighbours", path)
    return path

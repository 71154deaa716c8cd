"""Score fields in the plane: the true one, the learned one, and their difference."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_gen.results.pictures.figures import new_figure, pixels

LONGEST = 2  # an arrow that is drawn in full, in the 98 % quantile of the true ones


class Field(NamedTuple):
    """Both scores at one time: title, half the side of the plane, the density and the length of the error on a fine
    grid, both fields (n^2, 2) on a coarse one, and the relative error."""

    title: str
    half: float
    density: np.ndarray
    miss: np.ndarray
    points: Tensor
    true: Tensor
    learned: Tensor
    error: float


def score_fields(fields: Sequence[Field], grid: int) -> np.ndarray:
    """A row for each time: both fields over the density, the length of the error -> uint8 (H, W, 3)."""
    figure = new_figure(13, 4.5 * len(fields))
    for panels, field in zip(figure.subplots(len(fields), 3, squeeze=False), fields, strict=True):
        half, density = field.half, field.density
        box = {"extent": (-half, half, -half, half), "origin": "lower"}
        longest = float(field.true.norm(dim=1).quantile(0.98))
        for axes, title, score in ((panels[0], "true score", field.true), (panels[1], "learned score", field.learned)):
            axes.imshow(density**0.5, cmap="Blues", alpha=0.8, **box)
            # square roots of the lengths, so that the small ones can be seen
            lengths = score.norm(dim=1, keepdim=True).clamp(min=1e-9)
            arrows = score / lengths * (lengths / longest).clamp(max=LONGEST).sqrt()
            cut = (lengths[:, 0] > LONGEST * longest).tolist()
            colours = ["red" if one else "0.15" for one in cut]
            style = {"angles": "xy", "scale": grid * 0.75, "width": 0.0035, "color": colours}
            axes.quiver(*field.points.T.numpy(), *arrows.T.numpy(), **style)
            axes.set_title(title + field.title + "; red: longer than drawn" * any(cut))
        # where the data are: far from them a score may be anything
        largest = max(float(np.quantile(field.miss[density > 0.01 * density.max()], 0.995)), 1e-9)
        image = panels[2].imshow(field.miss, cmap="magma", norm="log", clim=(largest / 1000, largest), **box)
        panels[2].contour(density, levels=[0.2 * density.max()], colors="white", linewidths=0.6, **box)
        panels[2].set_title(f"length of the error{field.title}; relative error {field.error:.3g}")
        figure.colorbar(image, ax=panels[2], shrink=0.85, extend="both")
        for axes in panels:
            axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
            axes.tick_params(labelsize=7)
    return pixels(figure)


def plane(half: float, n: int) -> Tensor:
    """An n x n grid of points in [-half, half]^2, row by row from below, float64, (n^2, 2)."""
    side = torch.linspace(-half, half, n, dtype=torch.float64)
    y, x = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)

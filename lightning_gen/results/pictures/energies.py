"""Filters of hidden units, histograms of energies, and the energy over the plane."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from lightning_gen.results.drawing import check_finite, grid, to_uint8
from lightning_gen.results.pictures.figures import new_figure, pixels


def filters(W: Tensor, shape: tuple[int, ...], n: int, step: int = 0) -> np.ndarray:
    """The n columns of W (D, H) of largest norm, in falling order, as images about grey -> uint8 (H', W', C)."""
    check_finite(W.T, "filters", step)
    chosen = W.norm(dim=0).argsort(descending=True)[:n]
    columns = W.T[chosen].float()
    scaled = columns / columns.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return grid(to_uint8(0.5 + 0.5 * scaled.view(-1, *shape)))


def histogram(series: Mapping[str, Tensor], bins: int = 30) -> np.ndarray:
    """Densities of named energies, (B,) each, over the same bins -> uint8 (H, W, 3)."""
    figure = new_figure(8, 4.5)
    axes = figure.subplots()
    low, high = (float(end) for end in torch.cat(list(series.values())).aminmax())
    room = max(0.02 * (high - low), 1e-6 * max(1.0, abs(high)))  # numpy refuses bins that the numbers cannot tell apart
    edges = np.linspace(low - room, high + room, bins + 1)
    for name, values in series.items():
        axes.hist(values.numpy(), edges, density=True, histtype="stepfilled", alpha=0.45, label=name)
    axes.set(xlabel="energy, nats", ylabel="density")
    axes.legend(fontsize=8)
    return pixels(figure)


def relief(energies: Tensor, half: float, clouds: dict[str, np.ndarray]) -> np.ndarray:
    """Energies (n, n) above their lowest as shades and contours, clouds (n, 2) as dots -> uint8 (H, W, 3).

    The shades end at twice the height below which 9 of 10 data lie: walls of any height would leave the valleys flat.
    """
    height = (energies - energies.min()).numpy()
    points = np.clip(((clouds["data"] / half + 1) / 2 * (len(energies) - 1)).round().astype(int), 0, len(energies) - 1)
    top = max(2 * float(np.quantile(height[points[:, 1], points[:, 0]], 0.9)), 1e-6)
    figure = new_figure(7.5, 6.5)
    axes = figure.subplots()
    box = {"extent": (-half, half, -half, half), "origin": "lower"}
    image = axes.imshow(height, cmap="viridis_r", clim=(0, top), **box)
    if height.max() > 0:
        axes.contour(height, levels=np.linspace(0, top, 11)[1:], colors="0.3", linewidths=0.5, **box)
    for (name, points), colour in zip(clouds.items(), ("tab:orange", "tab:red"), strict=False):
        axes.scatter(*points.T, s=6, color=colour, linewidths=0, alpha=0.8, label=name)
    axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
    axes.legend(fontsize=8, loc="upper right")
    figure.colorbar(image, ax=axes, shrink=0.85, extend="max", label="energy above its lowest, nats")
    return pixels(figure)

"""Why a proposal of importance sampling fails or serves: its draws beside the posterior, and its growing estimate."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lightning_gen.results.pictures.figures import light_frame, png, small_multiples

LEVELS = (-8.0, -4.5, -2.0, -0.5)  # of log p(z|x) below its maximum, nats


def proposals_picture(
    draws: Mapping[str, tuple[np.ndarray, np.ndarray]], plane: np.ndarray, log_posterior: np.ndarray, truth: float
) -> bytes:
    """A PNG: a panel for each proposal, and one with log 1/k sum w of its first k draws beside log p(x).

    Args:
        draws: of each proposal, by name, z (K, 2) and log w (K,), nats.
        plane: coordinates of the grid along each axis, (G,).
        log_posterior: log p(z|x) up to a constant, (G, G), the second coordinate first.
        truth: log p(x), nats.
    """
    figure, axes = small_multiples(len(draws) + 1, 3.6, 3.4)
    top = float(log_posterior.max())
    for own, (name, (z, log_w)) in zip(axes, draws.items(), strict=False):
        _panel(own, name, z, log_w)
        own.contour(plane, plane, log_posterior - top, LEVELS, colors="#b03030", linewidths=0.9)
        own.set(xlim=(plane[0], plane[-1]), ylim=(plane[0], plane[-1]), xlabel="$z_1$", ylabel="$z_2$")
    last = axes[-1]
    for i, (name, (_, log_w)) in enumerate(draws.items()):
        k = np.arange(1, len(log_w) + 1)
        last.plot(k, np.logaddexp.accumulate(log_w) - np.log(k), color=f"C{i}", linewidth=1.3, label=name)
    last.axhline(truth, color="0.3", linestyle="--", linewidth=1, label="log p(x)")
    last.set(xscale="log", xlabel="draws k", ylim=(truth - 4, truth + 1.5))
    last.set_title("log of the mean weight, nats", fontsize=9)
    light_frame(last)
    last.legend(fontsize=8, frameon=False, loc="lower right")
    return png(figure)


def _panel(axes: Any, name: str, z: np.ndarray, log_w: np.ndarray) -> None:
    """Draws of z as large as their share of the weight, and their effective number."""
    w = np.exp(log_w - log_w.max())
    w = w / w.sum()
    axes.scatter(*z.T, s=2, color="0.7", linewidths=0)
    axes.scatter(*z.T, s=300 * w, color="C0", alpha=0.6, linewidths=0)
    axes.set_title(f"{name}: ESS {1 / float(np.square(w).sum()):.0f} of {len(w):,}", fontsize=9)
    axes.set_aspect("equal")
    axes.tick_params(labelsize=8)

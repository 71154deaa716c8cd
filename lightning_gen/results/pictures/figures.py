"""What the figures by matplotlib share: how they are made, how axes look, and what becomes of them."""

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, dpi: int = 100) -> "Figure":
    """An empty figure of that size in inches; without pyplot, which keeps every figure and may open a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def small_multiples(count: int, width: float, height: float) -> tuple["Figure", list["Axes"]]:
    """A figure of `count` axes, at most three in a row, each of that size in inches."""
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = new_figure(1.2 + width * columns, height * rows, dpi=120)
    return figure, [figure.add_subplot(rows, columns, number) for number in range(1, count + 1)]


def light_frame(axes: "Axes") -> None:
    """A light grid behind the curves, and no frame above and on the right."""
    axes.grid(True, color="#e3e3e3", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def pixels(figure: "Figure") -> np.ndarray:
    """The figure as uint8 (H, W, 3)."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def png(figure: "Figure") -> bytes:
    """The figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()

"""The run's curves as one picture, from its record."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from lightning_gen.results.pictures.figures import light_frame, png, small_multiples
from lightning_gen.results.result import HELD_OUT, Name, error_of, is_error
from lightning_gen.results.store import METRICS, RECORD, read_record, write_atomically
from lightning_gen.results.tables import COLOURS
from lightning_gen.runs.metrics_file import read_metrics

CURVES = "curves.png"
UNITS = {
    "train/loss": "loss",
    "val/loss": "loss",
    "train/lr": "learning rate",
    "train/gradient_norm": "gradient norm",
    "speed/images_per_s": "images/s",
    "speed/share": "share of wall time",
}
SHARES = ("speed/data", "speed/step", "speed/logging", "speed/evaluation")
Series = dict[str, tuple[np.ndarray, np.ndarray]]


def draw_curves(folder: str | Path) -> Path | None:
    """<folder>/curves.png from <folder>/record.jsonl, or None where nothing is recorded yet."""
    folder = Path(folder)
    if not (folder / RECORD).exists():
        return None
    lines = read_record(folder / RECORD)
    if not lines:
        return None
    known = read_metrics(folder / METRICS) if (folder / METRICS).exists() else {}
    units = UNITS | {panel_of(name): entry["unit"] for name, entry in known.items() if entry.get("unit")}
    return write_atomically(folder / CURVES, _figure(series(lines), units))


def series(lines: list[dict[str, Any]]) -> Series:
    """Lines of a record -> name: (steps, values), in order of step."""
    rows: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for line in lines:
        rows[line["name"]].append((line["step"], line["value"]))
    return {name: tuple(np.array(column) for column in zip(*points, strict=True)) for name, points in rows.items()}


def smooth(values: np.ndarray, span: float) -> np.ndarray:
    """Mean over the past with weights decaying over `span` values, without the start's bias; NaN is left out."""
    decay, total, weight = 1 - 1 / max(span, 1.0), 0.0, 0.0
    out = np.empty(len(values))
    for i, value in enumerate(values):
        total, weight = decay * total, decay * weight
        if np.isfinite(value):
            total, weight = total + value, weight + 1
        out[i] = total / weight if weight else np.nan
    return out


def panel_of(text: str) -> str:
    """Which curves stand in one panel: those of one quantity, whatever the split or the weights."""
    name = Name.parse(text)
    if name.quantity in ("train/loss", "val/loss"):
        return "train/loss"
    return "speed/share" if name.quantity in SHARES else name.subject


def _figure(curves: Series, units: dict[str, str]) -> bytes:
    panels: dict[str, list[str]] = defaultdict(list)
    for name in curves:
        if not is_error(name):
            panels[panel_of(name)].append(name)
    # a single number is for the table, where there are curves to draw
    moving = {p: names for p, names in panels.items() if any(len(set(curves[name][0])) > 1 for name in names)}
    panels = moving or panels
    order = sorted(panels, key=lambda p: (p != "train/loss", p.startswith("speed"), p.startswith("train"), p))
    figure, frames = small_multiples(len(order), 4.4, 3.3)
    for panel, axes in zip(order, frames, strict=True):
        named = sorted(panels[panel])
        for i, name in enumerate(named):
            _draw_curve(axes, panel, name, curves, COLOURS[i % len(COLOURS)])
        _frame(axes, panel, np.concatenate([curves[name][1] for name in named]))
        if len(named) > 1 or panel == "train/loss":
            axes.legend(fontsize=8, frameon=False)
        axes.set_ylabel(units.get(panel) or panel.split("/")[0])
        axes.set_title(panel if panel != "train/loss" else "loss", loc="left", fontsize=10, fontweight="bold")
    return png(figure)


def _label(panel: str, name: str) -> str:
    """A curve in the legend: what tells it from the others of its panel."""
    if panel == "train/loss":
        return name.replace("/loss", "")
    return name.removeprefix("speed/") if panel.startswith("speed/") else name.removeprefix(panel + "/")


def _draw_curve(axes: Any, panel: str, name: str, curves: Series, colour: str) -> None:
    """One number over the steps, with its errors; a long training curve smoothed; real data as a level."""
    (steps, values), label, parts = curves[name], _label(panel, name), Name.parse(name)
    if parts.weights == HELD_OUT:
        # a single number, the best that a model could reach: a level, not a curve
        axes.axhline(values[-1], color="#555555", linestyle="--", linewidth=1.2, label="held-out data")
        return
    if len(values) > 30 and parts.group == "train":
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
        axes.plot(steps, smooth(values, len(values) / 40), color=colour, linewidth=1.8, label=label)
    else:
        size = 4 if len(values) < 30 else 0
        axes.plot(steps, values, color=colour, linewidth=1.6, marker="o", markersize=size, label=label)
    draw_errors(axes, curves, name, colour, 3)


def draw_errors(axes: Any, curves: Series, name: str, colour: str, cap: float) -> None:
    """The errors of a curve, where they are recorded."""
    if error_of(name) in curves:
        (steps, values), (at, error) = curves[name], curves[error_of(name)]
        known = np.isin(steps, at)
        axes.errorbar(steps[known], values[known], error[np.isin(at, steps)], fmt="none", ecolor=colour, capsize=cap)


def logarithmic(panel: str, values: np.ndarray) -> bool:
    """Whether a panel has a logarithmic axis: a loss has one, other numbers over more than a decade; none below 0."""
    values = values[np.isfinite(values)]
    if not len(values) or values.min() <= 0:
        return False
    return panel.endswith("/loss") or bool(np.quantile(values, 0.99) > 10 * np.quantile(values, 0.01))


def _frame(axes: Any, panel: str, values: np.ndarray) -> None:
    """Scales, ticks and grid for these values."""
    from matplotlib.ticker import MaxNLocator

    if panel.startswith("speed/"):
        axes.set_ylim(0, 1 if panel == "speed/share" else None)
    elif logarithmic(panel, values):
        axes.set_yscale("log")
    axes.set_xlabel("optimizer steps")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    light_frame(axes)

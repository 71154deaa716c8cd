"""The run's curves as one picture, from its record."""

import io
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from lightning_gen.results.store import METRICS, RECORD, read_record, write_atomically
from lightning_gen.runs.folder import read_metrics

CURVES = "curves.png"
UNITS = {
    "train/loss": "loss",
    "val/loss": "loss",
    "train/lr": "learning rate",
    "train/gradient_norm": "gradient norm",
    "speed/images_per_s": "images/s",
    "speed/share": "share of wall time",
}
SHARES = ("data", "step", "logging", "evaluation")
COLOURS = (
    *("#2563a8", "#d1632f", "#2f8f5b", "#8c4fa8", "#a88a1d", "#3a9fb0"),
    *("#b03a5b", "#6b6b6b", "#e58fb5", "#17324f", "#7a4a21", "#93c24a"),
)
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
    units = UNITS | {_panel(name): entry["unit"] for name, entry in known.items() if entry.get("unit")}
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


def _panel(name: str) -> str:
    """Which curves stand in one panel: those of one quantity, whatever the split or the weights."""
    first, _, rest = name.partition("/")
    if rest.split("/")[0] == "loss":
        return "train/loss"
    if first == "speed" and rest in SHARES:
        return "speed/share"
    return name.rpartition("/")[0] if first not in ("train", "speed") and name.count("/") > 1 else name


def _figure(curves: Series, units: dict[str, str]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: dict[str, list[str]] = defaultdict(list)
    for name in curves:
        if not name.endswith("/error"):
            panels[_panel(name)].append(name)
    # a single number is for the table, where there are curves to draw
    moving = {p: names for p, names in panels.items() if any(len(set(curves[name][0])) > 1 for name in names)}
    panels = moving or panels
    order = sorted(panels, key=lambda p: (p != "train/loss", p.startswith("speed"), p.startswith("train"), p))
    columns = min(len(order), 3)
    rows = -(-len(order) // columns)
    figure = Figure(figsize=(1.2 + 4.4 * columns, 3.3 * rows), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for place, panel in enumerate(order):
        axes = figure.add_subplot(rows, columns, place + 1)
        _draw_panel(axes, panel, {name: curves[name] for name in sorted(panels[panel])}, curves)
        axes.set_ylabel(units.get(panel) or panel.split("/")[0])
        axes.set_title(panel if panel != "train/loss" else "loss", loc="left", fontsize=10, fontweight="bold")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_panel(axes: Any, panel: str, named: Series, curves: Series) -> None:
    every = np.concatenate([values[np.isfinite(values)] for _, values in named.values()])
    for place, (name, (steps, values)) in enumerate(named.items()):
        colour = COLOURS[place % len(COLOURS)]
        label = name.removeprefix(panel + "/") if panel != "train/loss" else name.replace("/loss", "")
        if name.startswith("speed/"):
            label = name.removeprefix("speed/")
        if name.endswith("/held-out"):
            # a single number, the best that a model could reach: a level, not a curve
            axes.axhline(values[-1], color="#555555", linestyle="--", linewidth=1.2, label="held-out data")
        elif len(values) > 30 and name.startswith("train/"):
            axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(steps, smooth(values, len(values) / 40), color=colour, linewidth=1.8, label=label)
        else:
            axes.plot(steps, values, color=colour, linewidth=1.6, marker="o", markersize=4 if len(values) < 30 else 0,
                      label=label)  # fmt: skip
        if f"{name}/error" in curves and not name.endswith("/held-out"):
            at, error = curves[f"{name}/error"]
            there = np.isin(steps, at)
            axes.errorbar(steps[there], values[there], error[np.isin(at, steps)], fmt="none", ecolor=colour, capsize=3)
    positive = len(every) > 0 and every.min() > 0
    if positive and panel != "speed/share" and np.quantile(every, 0.99) > 10 * np.quantile(every, 0.01):
        axes.set_yscale("log")
    if panel.startswith("speed/"):
        axes.set_ylim(0, 1 if panel == "speed/share" else None)
    axes.set_xlabel("optimizer steps")
    axes.xaxis.set_major_locator(_whole_steps())
    axes.grid(True, color="#e3e3e3", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    if len(named) > 1 or panel == "train/loss":
        axes.legend(fontsize=8, frameon=False)


def _whole_steps() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5, integer=True)

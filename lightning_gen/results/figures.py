"""The pictures of a comparison: sample grids, curves of all runs, samplers over network evaluations."""

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from lightning_gen.results.curves import COLOURS, UNITS, Series, _panel, series, smooth
from lightning_gen.results.drawing import grid, to_pil
from lightning_gen.results.page import Picture
from lightning_gen.results.ranking import Entry, classes, differences, protocol
from lightning_gen.results.report import _newest
from lightning_gen.results.sampler_table import SAMPLERS, spent
from lightning_gen.results.store import RECORD, read_record
from lightning_gen.results.tables import Run, spoken, value_of

SHOWN = 36  # images of each grid, so that they stand beside one another at one scale
STYLES = ("-", "--", ":", "-.")
TICKS = [base * 10**power for power in range(6) for base in (1, 2, 5)]
MARKERS = "os^vDPX*<>"


def pictures(runs: Sequence[Run]) -> list[Picture]:
    """Every picture that the folders can give."""
    return [*grids(runs), *samplers(runs), *curves(runs)]


def grids(runs: Sequence[Run]) -> list[Picture]:
    """The first samples of each run's last evaluation, or its newest grid where no archive is kept."""
    found = []
    for run in runs:
        picture, archive = _newest(run.path, "grid"), _newest(run.path, "samples", "npz")
        data = None
        if archive is not None:
            with np.load(archive, allow_pickle=False) as arrays:
                if "images" in arrays:
                    data = _png(grid(arrays["images"][:SHOWN], 6))
        if data is None and picture is not None:
            data = picture.read_bytes()
        if data is not None:
            name = archive.name if archive is not None else picture.name
            found.append(Picture("samples", data, f"{run.name} ({name})"))
    return found


def curves(runs: Sequence[Run]) -> list[Picture]:
    """Losses and metrics of all runs over their optimizer steps, a panel a quantity, a colour a run."""
    drawn = [_series(run) for run in runs]
    panels: dict[str, list[tuple[int, str]]] = {}
    for place, (run, found) in enumerate(zip(runs, drawn, strict=True)):
        for name in found:
            if name.endswith(("/error", "/held-out")) or name.startswith(("speed", "train/lr", "train/gradient")):
                continue
            panel = _panel(name)
            # Losses of two families are two quantities.
            panel = f"loss of {run.family}" if panel == "train/loss" else panel
            panels.setdefault(panel, []).append((place, name))
    moving = {
        panel: lines
        for panel, lines in panels.items()
        if any(len(set(drawn[place][name][0])) > 1 for place, name in lines)
    }
    if not moving:
        return []
    order = sorted(moving, key=lambda panel: (not panel.startswith("loss"), panel))
    figure, axes = _figure(order)
    for panel, here in zip(order, axes, strict=True):
        for place, name in moving[panel]:
            _line(here, runs[place], place, name, drawn[place])
        here.set_title(panel, loc="left", fontsize=10, fontweight="bold")
        here.set_xlabel("optimizer steps")
        values = np.concatenate([drawn[place][name][1] for place, name in moving[panel]])
        values = values[np.isfinite(values)]
        if len(values) and values.min() > 0 and np.quantile(values, 0.99) > 10 * np.quantile(values, 0.01):
            here.set_yscale("log")
        here.set_ylabel(UNITS.get(panel, panel.split("/")[0]) if not panel.startswith("loss") else "loss")
        here.legend(fontsize=8, frameon=False)
    families = {run.family for run in runs}
    said = "Losses and metrics over optimizer steps; values of other protocols are drawn as they were measured"
    said += "" if len(families) == 1 else "; losses of different families have scales of their own"
    return [Picture("curves", _saved(figure), said)]


def _series(run: Run) -> Series:
    path = run.path / RECORD
    return series(read_record(path)) if path.is_file() else {}


def _line(axes: Any, run: Run, place: int, name: str, found: Series) -> None:
    colour, (steps, values) = COLOURS[place % len(COLOURS)], found[name]
    what = "validation" if name.startswith("val/") else "" if name.startswith("train/") else name.rpartition("/")[2]
    label = f"{run.name} {what}".strip()
    if len(values) > 30 and name.startswith("train/"):
        axes.plot(steps, values, color=colour, alpha=0.18, linewidth=0.7)
        axes.plot(steps, smooth(values, len(values) / 40), color=colour, linewidth=1.7, label=label)
        return
    style = {"linestyle": "--" if what == "validation" else "-", "marker": "o", "markersize": 3.5}
    axes.plot(steps, values, color=colour, linewidth=1.5, label=label, **style)
    if f"{name}/error" in found:
        at, error = found[f"{name}/error"]
        axes.errorbar(steps[np.isin(steps, at)], values[np.isin(steps, at)], error[np.isin(at, steps)], fmt="none",
                      ecolor=colour, capsize=2.5)  # fmt: skip


def samplers(runs: Sequence[Run]) -> list[Picture]:
    """FID and KID over network evaluations a sample, a picture for each protocol; from the folders' samplers.json."""
    rows: list[tuple[Entry, str, dict[str, Any]]] = []
    for place, run in enumerate(runs):
        path = run.path / f"{SAMPLERS}.json"
        if path.is_file():
            for row in json.loads(path.read_text())["rows"]:
                entry = Entry(place, "samplers", "", 0.0, None, "estimate", "", dict(row.get("protocol") or {}))
                rows.append((entry, row["sampler"], row))
    parts = classes(entry for entry, _, _ in rows)
    unequal = differences(protocol(part[0]) for part in parts)
    found = []
    for number, part in enumerate(parts):
        told = [f"{spoken(key)} {value_of(values[number])}" for key, values in unequal.items()]
        caption = "FID and KID over network evaluations a sample" + (f"; {', '.join(told)}" if told else "")
        caption += "; not ranked with the other pictures of this section" * bool(told)
        found.append(Picture("samplers", _evaluations([row for row in rows if row[0] in part], runs), caption))
    return found


def _evaluations(rows: Sequence[tuple[Entry, str, dict[str, Any]]], runs: Sequence[Run]) -> bytes:
    from matplotlib.ticker import NullLocator

    figure, axes = _figure(("fid", "kid"))
    names = list(dict.fromkeys(name for _, name, _ in rows))
    several = len({entry.run for entry, _, _ in rows}) > 1
    for here, key in zip(axes, ("fid", "kid"), strict=True):
        for place, name in dict.fromkeys((entry.run, name) for entry, name, _ in rows):
            own = sorted(
                (spent(row), row[key]["value"], row[key]["error"])
                for entry, other, row in rows
                if (entry.run, other) == (place, name)
            )
            x, y, errors = zip(*own, strict=True)
            # a colour a run, or, of one run alone, a sampler
            number = place if several else names.index(name)
            style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[names.index(name) % len(MARKERS)]}
            style["linestyle"] = STYLES[names.index(name) % len(STYLES)]
            here.errorbar(x, y, errors, label=f"{runs[place].name}, {name}", capsize=2, linewidth=1.3, **style)
        values = [row[key]["value"] for _, _, row in rows]
        here.set_xscale("log")
        reach = sorted(spent(row) for _, _, row in rows)
        here.set_xticks([mark for mark in TICKS if reach[0] / 1.3 <= mark <= reach[-1] * 1.3])
        here.get_xaxis().set_major_formatter("{x:,.0f}")
        here.get_xaxis().set_minor_locator(NullLocator())
        if key == "fid" and min(values) > 0:
            here.set_yscale("log")
        here.set(xlabel="network evaluations a sample", ylabel=key.upper())
    axes[0].legend(fontsize=7, frameon=False)
    return _saved(figure)


def _figure(panels: Sequence[str]) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(1.2 + 4.6 * columns, 3.5 * rows), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(len(panels))]
    for here in axes:
        here.grid(True, color="#e3e3e3", linewidth=0.7)
        here.set_axisbelow(True)
        here.spines[["top", "right"]].set_visible(False)
        here.tick_params(labelsize=8)
    return figure, axes


def _saved(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    to_pil(picture).save(buffer, format="PNG")
    return buffer.getvalue()

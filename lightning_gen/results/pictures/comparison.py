"""The pictures of a comparison: sample grids, curves of all runs, samplers over network evaluations."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from lightning_gen.results.compared import Run, value_of, words_of
from lightning_gen.results.curves import UNITS, Series, draw_errors, logarithmic, panel_of, series, smooth
from lightning_gen.results.drawing import grid, picture_png
from lightning_gen.results.page import Picture
from lightning_gen.results.pictures.figures import light_frame, png, small_multiples
from lightning_gen.results.pictures.samplers import MARKERS, round_ticks
from lightning_gen.results.ranking import Entry, classes, differences, protocol
from lightning_gen.results.result import HELD_OUT, Name, is_error
from lightning_gen.results.sampler_table import SAMPLERS, spent
from lightning_gen.results.store import RECORD, newest_picture, read_record
from lightning_gen.results.tables import COLOURS

IMAGES = 36  # of each grid, so that they stand beside one another at one scale
STYLES = ("-", "--", ":", "-.")
Lines = list[tuple[int, str]]  # a run and a curve of it


def pictures(runs: Sequence[Run]) -> list[Picture]:
    """Every picture that the folders can give."""
    return [*grids(runs), *samplers(runs), *curves(runs)]


def grids(runs: Sequence[Run]) -> list[Picture]:
    """The first samples of each run's last evaluation, or its newest grid where no archive is kept."""
    panels = []
    for run in runs:
        picture, archive = newest_picture(run.path, "grid"), newest_picture(run.path, "samples", "npz")
        data = None
        if archive is not None:
            with np.load(archive, allow_pickle=False) as arrays:
                if "images" in arrays:
                    data = picture_png(grid(arrays["images"][:IMAGES], 6))
        if data is None and picture is not None:
            data = picture.read_bytes()
        if data is not None:
            name = archive.name if archive is not None else picture.name
            panels.append(Picture("samples", data, f"{run.name} ({name})"))
    return panels


def curves(runs: Sequence[Run]) -> list[Picture]:
    """Losses and metrics of all runs over their optimizer steps, a panel a quantity, a colour a run."""
    recorded = [_series(run) for run in runs]
    panels: dict[str, Lines] = {}
    for i, run in enumerate(runs):
        for name in recorded[i]:
            if _compared(name):
                panel = panel_of(name)
                # Losses of two families are two quantities.
                panels.setdefault(f"loss of {run.family}" if panel == "train/loss" else panel, []).append((i, name))
    moving = {
        panel: lines for panel, lines in panels.items() if any(len(set(recorded[i][name][0])) > 1 for i, name in lines)
    }
    if not moving:
        return []
    order = sorted(moving, key=lambda panel: (not panel.startswith("loss"), panel))
    figure, axes = small_multiples(len(order), 4.6, 3.5)
    for panel, here in zip(order, axes, strict=True):
        light_frame(here)
        for i, name in moving[panel]:
            _line(here, runs[i], i, name, recorded[i])
        _frame(here, panel, np.concatenate([recorded[i][name][1] for i, name in moving[panel]]))
    caption = "Losses and metrics over optimizer steps; values of other protocols are drawn as they were measured"
    caption += "; losses of different families have scales of their own" * (len({run.family for run in runs}) > 1)
    return [Picture("curves", png(figure), caption)]


def _compared(text: str) -> bool:
    """Whether a curve says something of the model: no error, level of real data, speed, rate or gradient."""
    name = Name.parse(text)
    technical = name.group == "speed" or name.quantity in ("train/lr", "train/gradient_norm")
    return not is_error(text) and name.weights != HELD_OUT and not technical


def _frame(axes: Any, panel: str, values: np.ndarray) -> None:
    axes.set_title(panel, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel("optimizer steps")
    loss = panel.startswith("loss of")
    if logarithmic("train/loss" if loss else panel, values):
        axes.set_yscale("log")
    axes.set_ylabel("loss" if loss else UNITS.get(panel, panel.split("/")[0]))
    axes.legend(fontsize=8, frameon=False)


def _series(run: Run) -> Series:
    path = run.path / RECORD
    return series(read_record(path)) if path.is_file() else {}


def _line(axes: Any, run: Run, index: int, name: str, recorded: Series) -> None:
    colour, (steps, values) = COLOURS[index % len(COLOURS)], recorded[name]
    parts = Name.parse(name)
    what = {"val": "validation", "train": ""}.get(parts.group, name.rpartition("/")[2])
    label = f"{run.name} {what}".strip()
    if len(values) > 30 and parts.group == "train":
        axes.plot(steps, values, color=colour, alpha=0.18, linewidth=0.7)
        axes.plot(steps, smooth(values, len(values) / 40), color=colour, linewidth=1.7, label=label)
        return
    style = {"linestyle": "--" if what == "validation" else "-", "marker": "o", "markersize": 3.5}
    axes.plot(steps, values, color=colour, linewidth=1.5, label=label, **style)
    draw_errors(axes, recorded, name, colour, 2.5)


SamplerRow = tuple[Entry, str, dict[str, Any]]


def samplers(runs: Sequence[Run]) -> list[Picture]:
    """FID and KID over network evaluations a sample, a picture for each protocol; from the folders' samplers.json."""
    rows: list[SamplerRow] = []
    for i, run in enumerate(runs):
        path = run.path / f"{SAMPLERS}.json"
        if path.is_file():
            for row in json.loads(path.read_text())["rows"]:
                entry = Entry(i, Name("samplers"), 0.0, None, "estimate", "", dict(row.get("protocol") or {}))
                rows.append((entry, row["sampler"], row))
    parts = classes(entry for entry, _, _ in rows)
    unequal = differences(protocol(part[0]) for part in parts)
    panels = []
    for number, part in enumerate(parts):
        words = [f"{words_of(key)} {value_of(values[number])}" for key, values in unequal.items()]
        caption = "; ".join(["FID and KID over network evaluations a sample", *([", ".join(words)] if words else [])])
        caption += "; not ranked with the other pictures of this section" * bool(words)
        panels.append(Picture("samplers", _evaluations([row for row in rows if row[0] in part], runs), caption))
    return panels


def _evaluations(rows: Sequence[SamplerRow], runs: Sequence[Run]) -> bytes:
    figure, axes = small_multiples(2, 4.6, 3.5)
    names = list(dict.fromkeys(name for _, name, _ in rows))
    several = len({entry.run for entry, _, _ in rows}) > 1
    reach = sorted(spent(row) for _, _, row in rows)
    for here, key in zip(axes, ("fid", "kid"), strict=True):
        light_frame(here)
        for run, name in dict.fromkeys((entry.run, name) for entry, name, _ in rows):
            own = [row for entry, other, row in rows if (entry.run, other) == (run, name)]
            points = sorted((spent(row), row[key]["value"], row[key]["error"]) for row in own)
            x, y, errors = zip(*points, strict=True)
            # a colour a run, or, of one run alone, a sampler
            number = run if several else names.index(name)
            style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[names.index(name) % len(MARKERS)]}
            style["linestyle"] = STYLES[names.index(name) % len(STYLES)]
            here.errorbar(x, y, errors, label=f"{runs[run].name}, {name}", capsize=2, linewidth=1.3, **style)
        here.set_xscale("log")
        round_ticks(here.get_xaxis(), reach[0], reach[-1], "{x:,.0f}")
        if key == "fid" and min(row[key]["value"] for _, _, row in rows) > 0:
            here.set_yscale("log")
        here.set(xlabel="network evaluations a sample", ylabel=key.upper())
    axes[0].legend(fontsize=7, frameon=False)
    return png(figure)

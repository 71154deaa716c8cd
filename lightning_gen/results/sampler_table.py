"""The table of samplers as text, as a page's part and as a picture, made from samplers.json alone."""

import json
import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

SAMPLERS = "samplers"  # .json, .md and .png in the run folder
METRICS = {"fid": "FID", "kid": "KID", "seconds": "Seconds per 1,000 samples"}


def number(value: float, error: float | None = None) -> str:
    """3.172 +- 0.021 with two digits of the error, or four significant digits."""
    if error is None or not math.isfinite(error) or not math.isfinite(value) or error <= 0:
        return f"{value:.4g}" if abs(value) < 1e4 or not math.isfinite(value) else f"{value:,.0f}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:,.{digits}f} ± {error:,.{digits}f}"


def tables(content: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[tuple[str, bool]]]]]:
    """Title, head and rows of (cell, best of its column) for FID, KID and seconds: samplers over evaluations at most.

    Whatever a sampler was asked, it stands in the first column that holds what it spent; in brackets, if that is less.
    """
    budgets, rows = list(content["budgets"]), content["rows"]
    most = math.ceil(max(row["evaluations"]["value"] for row in rows))
    columns = [*budgets, most] if most > budgets[-1] else budgets
    place = {}
    for row in sorted(rows, key=spent):
        place[row["sampler"], next(column for column in columns if spent(row) <= column)] = row

    def cell(name: str, column: int, key: str) -> tuple[str, bool]:
        row = place.get((name, column))
        if row is None:
            return "", False
        best = min(other[key]["value"] for (_, at), other in place.items() if at == column)
        told = number(row[key]["value"], row[key]["error"])
        return told + (f" ({spent(row):.4g})" if spent(row) != column else ""), row[key]["value"] == best

    names = dict.fromkeys(row["sampler"] for row in rows)
    return [
        (
            title,
            ["sampler", *(f"{column:,}" for column in columns)],
            [[(name, False), *(cell(name, column, key) for column in columns)] for name in names],
        )
        for key, title in METRICS.items()
    ]


def notes(content: Mapping[str, Any]) -> list[str]:
    """What the tables do not say."""
    first, held_out = content["rows"][0]["protocol"], content["held_out"]
    machines = dict.fromkeys(row["seconds"]["protocol"]["machine"] for row in content["rows"])
    lines = [
        "Columns: at most so many network evaluations a sample; in brackets, how many there were.",
        f"N = {first['n']:,} samples of one seed at step {first['step']:,}, weights {first['weights']}, "
        f"against the {first['reference']} split of {first['data']}.",
    ]
    if held_out:
        real = ", ".join(f"{METRICS[key]} {number(x['value'], x['error'])}" for key, x in held_out.items())
        lines.append(f"Real data held out, N = {held_out['kid']['protocol']['n']:,}: {real}.")
    lines.append(f"Seconds are of drawing alone, by one device: {'; '.join(machines)}.")
    return lines + [f"{name} is left out: {reason}" for name, reason in content["left_out"].items()]


def markdown(content: Mapping[str, Any]) -> str:
    """The tables as Markdown, the best of each column in bold."""
    lines = []
    for title, head, body in tables(content):
        lines += [f"### {title}", "", f"| {' | '.join(head)} |", f"|---{'|---:' * (len(head) - 1)}|"]
        lines += [f"| {' | '.join(f'**{cell}**' if best else cell for cell, best in row)} |" for row in body] + [""]
    return "\n".join([*lines, *(f"- {note}" for note in notes(content)), ""])


def html(folder: Path) -> str:
    """The tables of a run folder as a page's part, empty where there are none."""
    path = folder / f"{SAMPLERS}.json"
    if not path.exists():
        return ""
    content, parts = json.loads(path.read_text()), []
    for title, head, body in tables(content):
        rows = [[f"<b>{escape(cell)}</b>" if best else escape(cell) for cell, best in row] for row in body]
        rows = [
            "".join(f'<td class="number" data-head="{h}">{c}</td>' for h, c in zip(head, r, strict=True)) for r in rows
        ]
        heads, lines = "".join(f"<th>{name}</th>" for name in head), "".join(f"<tr>{row}</tr>" for row in rows)
        table = f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>'
        parts.append(f"<details><summary>{title}</summary>{table}</details>")
    return "".join([*parts, *(f'<p class="about">{escape(note)}</p>' for note in notes(content))])


def spent(row: Mapping[str, Any]) -> float:
    """Network evaluations a sample."""
    return row["evaluations"]["value"]


def picture(content: Mapping[str, Any]) -> np.ndarray:
    """FID and KID of each sampler's rows over their evaluations, and of held-out data -> uint8 (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    rows, real = content["rows"], dict(content["held_out"])
    if real and real["fid"]["protocol"]["n"] != rows[0]["protocol"]["n"]:
        del real["fid"]  # at another N it has another bias
    figure = Figure(figsize=(12, 5), dpi=110, layout="constrained")
    canvas, markers = FigureCanvasAgg(figure), "os^vDPX*<>"
    names = list(dict.fromkeys(row["sampler"] for row in rows))
    reach = sorted(spent(row) for row in rows)
    places = [base * 10.0**power for power in range(-4, 6) for base in (1, 2, 5)]
    for axes, key in zip(figure.subplots(1, 2), ("fid", "kid"), strict=True):
        values = [row[key]["value"] for row in rows] + [x["value"] for k, x in real.items() if k == key]
        small = float(np.median([row[key]["error"] for row in rows]))
        for i, name in enumerate(names):
            own = sorted(
                (spent(row), row[key]["value"], row[key]["error"])
                for row in rows if row["sampler"] == name
            )  # fmt: skip
            style = {"marker": markers[i % len(markers)], "color": f"C{i % 10}", "label": name}
            style |= {"capsize": 2, "linewidth": 1.5, "elinewidth": 0.9, "markersize": 5}
            x, y, errors = zip(*own, strict=True)
            # side by side, so that the bars of one budget can be told apart
            axes.errorbar([at * 1.015 ** (i - len(names) / 2) for at in x], y, errors, **style)
        if key in real:
            count = real[key]["protocol"]["n"]
            axes.axhline(real[key]["value"], color="0.35", linestyle="--", label=f"real data, N = {count:,}")
        # KID is unbiased, and so about 0, on either side, for what is as good as real
        positive = key == "fid" and min(values) > 0
        axes.set_yscale("log") if positive else axes.set_yscale("symlog", linthresh=max(2 * small, 1e-9))
        low, high = min(values), max(values)
        axes.set_ylim((low / 1.3, high * 1.3) if positive else (min(low, 0) - small, high * 1.5 + small))
        axes.set_xscale("log")
        axes.set_xticks([mark for mark in places if reach[0] / 1.3 <= mark <= reach[-1] * 1.3])
        axes.get_xaxis().set_major_formatter("{x:,.0f}")
        axes.get_xaxis().set_minor_locator(NullLocator())
        if positive:
            axes.set_yticks([mark for mark in places if low / 1.3 <= mark <= high * 1.3])
            axes.get_yaxis().set_major_formatter("{x:g}")
            axes.get_yaxis().set_minor_locator(NullLocator())
        axes.set(xlabel="network evaluations a sample", ylabel=key.upper())
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=9, frameon=False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()

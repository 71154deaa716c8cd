"""FID and KID of samplers over their network evaluations, of one run."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lightning_gen.results.pictures.figures import new_figure, pixels
from lightning_gen.results.sampler_table import spent

TICKS = [base * 10.0**power for power in range(-4, 6) for base in (1, 2, 5)]
MARKERS = "os^vDPX*<>"


def samplers_picture(content: Mapping[str, Any]) -> np.ndarray:
    """FID and KID of each sampler's rows over their evaluations, and of held-out data -> uint8 (H, W, 3)."""
    rows, real = content["rows"], dict(content["held_out"])
    if real and real["fid"]["protocol"]["n"] != rows[0]["protocol"]["n"]:
        del real["fid"]  # at another N it has another bias
    figure = new_figure(12, 5, dpi=110)
    for axes, key in zip(figure.subplots(1, 2), ("fid", "kid"), strict=True):
        _draw(axes, key, rows, real.get(key))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=9, frameon=False)
    return pixels(figure)


def _draw(axes: Any, key: str, rows: list[Mapping[str, Any]], real: Mapping[str, Any] | None) -> None:
    """One metric of all samplers, and of real data where there are as many."""
    values = [row[key]["value"] for row in rows] + ([real["value"]] if real else [])
    names = list(dict.fromkeys(row["sampler"] for row in rows))
    for i, name in enumerate(names):
        own = sorted((spent(row), row[key]["value"], row[key]["error"]) for row in rows if row["sampler"] == name)
        style = {"marker": MARKERS[i % len(MARKERS)], "color": f"C{i % 10}", "label": name}
        style |= {"capsize": 2, "linewidth": 1.5, "elinewidth": 0.9, "markersize": 5}
        x, y, errors = zip(*own, strict=True)
        # side by side, so that the bars of one budget can be told apart
        axes.errorbar([at * 1.015 ** (i - len(names) / 2) for at in x], y, errors, **style)
    if real:
        label = f"real data, N = {real['protocol']['n']:,}"
        axes.axhline(real["value"], color="0.35", linestyle="--", label=label)
    # KID is unbiased, and so about 0, on either side, for what is as good as real
    positive, small = key == "fid" and min(values) > 0, float(np.median([row[key]["error"] for row in rows]))
    axes.set_yscale("log") if positive else axes.set_yscale("symlog", linthresh=max(2 * small, 1e-9))
    low, high = min(values), max(values)
    axes.set_ylim((low / 1.3, high * 1.3) if positive else (min(low, 0) - small, high * 1.5 + small))
    axes.set_xscale("log")
    reach = sorted(spent(row) for row in rows)
    round_ticks(axes.get_xaxis(), reach[0], reach[-1], "{x:,.0f}")
    if positive:
        round_ticks(axes.get_yaxis(), low, high, "{x:g}")
    axes.set(xlabel="network evaluations a sample", ylabel=key.upper())
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def round_ticks(axis: Any, low: float, high: float, style: str) -> None:
    """1, 2 and 5 of each power of ten on a logarithmic axis, and none between."""
    from matplotlib.ticker import NullLocator

    axis.set_ticks([mark for mark in TICKS if low / 1.3 <= mark <= high * 1.3])
    axis.set_major_formatter(style)
    axis.set_minor_locator(NullLocator())

"""The table of samplers, made from samplers.json alone."""

import math
from collections.abc import Mapping
from typing import Any

from lightning_gen.metrics.registry import quantity_of
from lightning_gen.results.page import render
from lightning_gen.results.ranking import Verdict
from lightning_gen.results.tables import Block, Cell, Row, Table, number

SAMPLERS = "samplers"  # .json, .md and .png in the run folder
COLUMNS = ("fid", "kid", "seconds")


def title_of(key: str) -> str:
    """What a column of the file is called."""
    return "Seconds per 1,000 samples" if key == "seconds" else quantity_of(key).title


def tables(content: Mapping[str, Any]) -> list[Table]:
    """FID, KID and seconds, each a table: samplers over evaluations at most, the least of a column marked.

    Whatever a sampler was asked, it stands in the first column that holds what it spent; in brackets, if that is less.
    """
    budgets, rows = list(content["budgets"]), content["rows"]
    most = math.ceil(max(spent(row) for row in rows))
    columns = [*budgets, most] if most > budgets[-1] else budgets
    chosen = {}
    for row in sorted(rows, key=spent):
        chosen[row["sampler"], next(column for column in columns if spent(row) <= column)] = row
    names = dict.fromkeys(row["sampler"] for row in rows)
    heads = [f"{column:,}" for column in columns]
    return [
        Table(
            title_of(key),
            "",
            heads,
            [Block("", [Row(None, name, [_cell(chosen, name, column, key) for column in columns]) for name in names])],
            head="sampler",
        )
        for key in COLUMNS
    ]


def _cell(chosen: Mapping[tuple[str, int], Any], name: str, column: int, key: str) -> Cell | None:
    row = chosen.get((name, column))
    if row is None:
        return None
    least = min(other[key]["value"] for (_, budget), other in chosen.items() if budget == column)
    words = f" ({spent(row):.4g})" if spent(row) != column else ""
    verdict = Verdict("least" if row[key]["value"] == least else "")
    return Cell(row[key]["value"], row[key]["error"], words, verdict)


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
        real = ", ".join(f"{title_of(key)} {number(x['value'], x['error'])}" for key, x in held_out.items())
        lines.append(f"Real data held out, N = {held_out['kid']['protocol']['n']:,}: {real}.")
    lines.append(f"Seconds are of drawing alone, by one device: {'; '.join(machines)}.")
    return lines + [f"{name} is left out: {reason}" for name, reason in content["left_out"].items()]


def markdown(content: Mapping[str, Any]) -> str:
    """The tables as Markdown."""
    return render("samplers.md", tables=tables(content), level=3, notes=notes(content))


def spent(row: Mapping[str, Any]) -> float:
    """Network evaluations a sample."""
    return row["evaluations"]["value"]

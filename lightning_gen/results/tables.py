"""Tables as plain values, and their three writers: text, HTML, Markdown."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from lightning_gen.results.ranking import Entry, Verdict

MARKS = {"best": "best", "tie": "tied", "leads": "leads"}  # what a verdict is called beside a number
COLOURS = (
    *("#2563a8", "#d1632f", "#2f8f5b", "#8c4fa8", "#a88a1d", "#3a9fb0"),
    *("#b03a5b", "#6b6b6b", "#e58fb5", "#17324f", "#7a4a21", "#93c24a"),
)


@dataclass
class Cell:
    """A number: value, standard error or None, what follows it in words, its verdict, and where it comes from.

    The verdict's mark is that of a ranking, or `least`: the least of its column, whatever the errors.
    """

    value: float
    error: float | None = None
    words: str = ""
    verdict: Verdict = field(default_factory=Verdict)
    entry: Entry | None = None

    @property
    def text(self) -> str:
        """The number as it is read."""
        return number(self.value, self.error) + self.words


@dataclass
class Row:
    """What it is of, a run by its place and name, and a label; its cells; and, folded away, how it was measured."""

    run: int | None
    label: str
    cells: list[Cell | str | None]
    name: str = ""
    real: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)

    def texts(self) -> list[str]:
        """The cells as they are read."""
        return [cell.text if isinstance(cell, Cell) else cell or "" for cell in self.cells]


@dataclass
class Block:
    """Rows between which nothing but what is compared differs, unless a letter says so."""

    title: str
    rows: list[Row]


@dataclass
class Table:
    """A title, a sentence, columns after the one that says what a row is of, blocks, and what the reader must know."""

    title: str
    about: str
    columns: list[str]
    blocks: list[Block]
    notes: list[str] = field(default_factory=list)
    head: str = ""

    def rows(self) -> Iterator[Row]:
        """The rows of all blocks."""
        for block in self.blocks:
            yield from block.rows


def number(value: float, error: float | None = None) -> str:
    """3.172 +- 0.021 with two digits of the error, or four significant digits."""
    if error is None or not math.isfinite(error) or not math.isfinite(value) or error <= 0:
        return f"{value:.4g}" if abs(value) < 1e4 or not math.isfinite(value) else f"{value:,.0f}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:,.{digits}f} ± {error:,.{digits}f}"


def text(table: Table) -> str:
    """Columns side by side for a terminal; one that is empty is left out."""
    rows = [[table.head, *table.columns], *([row.label, *row.texts()] for row in table.rows())]
    rows = list(zip(*(column for column in zip(*rows, strict=True) if any(column[1:])), strict=True))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def markdown(table: Table, level: int = 2) -> list[str]:
    """Lines of Markdown, under a heading of that level; none for a table without rows."""
    if not table.blocks:
        return []
    lines = [f"{'#' * level} {plain(table.title)}", "", *([plain(table.about), ""] if table.about else [])]
    columns = zip(*(row.cells for row in table.rows()), strict=True)
    numbers = [all(isinstance(cell, Cell | None) for cell in column) for column in columns]
    for block in table.blocks:
        lines += [f"**{plain(block.title)}**", ""] if block.title else []
        lines.append(f"| {' | '.join([plain(table.head), *map(plain, table.columns)])} |")
        lines.append("|---" + "".join("|---:" if right else "|---" for right in numbers) + "|")
        for row in block.rows:
            lines.append(f"| {' | '.join([plain(f'{row.name} {row.label}'.strip()), *map(_marked, row.cells)])} |")
        lines.append("")
    return [*lines, *(f"- {plain(note)}" for note in table.notes), *([""] if table.notes else [])]


def plain(words: str) -> str:
    """Text that Markdown takes as it is."""
    return "".join(f"\\{c}" if c in "|*_`[]<>\\" else c for c in words.replace("\n", " "))


def _marked(cell: Cell | str | None) -> str:
    if not isinstance(cell, Cell):
        return plain(cell or "")
    words, mark = plain(cell.text), cell.verdict.mark
    words = f"**{words}**" if mark in ("best", "least") else words
    letter = f"<sup>{cell.verdict.group}</sup>" if cell.verdict.group else ""
    return words + letter + (f" ({MARKS[mark]})" if mark in MARKS else "")


def html(table: Table, stacked: bool = False) -> str:
    """A table in a box that scrolls by itself; stacked: on a narrow screen a row is a card, each cell with its head."""
    head = "".join(f"<th>{escape(title)}</th>" for title in table.columns)
    head += "<th>protocol</th>" if any(row.details for row in table.rows()) else ""
    body = "".join(_html_block(block, table, stacked) for block in table.blocks)
    about = f'<p class="about">{escape(table.about)}</p>' if table.about else ""
    return (
        f'{about}<div class="wide"><table><thead><tr><th class="name">{escape(table.head)}</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{html_notes(table.notes)}"
    )


def html_notes(notes: Sequence[str]) -> str:
    """Sentences as a list."""
    items = "".join(f"<li{' class=unlike' if 'ot ranked' in note else ''}>{escape(note)}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>' if items else ""


def _html_block(block: Block, table: Table, stacked: bool) -> str:
    columns = len(table.columns) + 1
    head = f'<tr class="block"><th colspan="{columns}">{escape(block.title)}</th></tr>' if block.title else ""
    return head + "".join(_html_row(row, table, stacked) for row in block.rows)


def _html_row(row: Row, table: Table, stacked: bool) -> str:
    heads = [f' data-head="{escape(title)}"' if stacked else "" for title in table.columns]
    cells = "".join(_html_cell(cell, head) for cell, head in zip(row.cells, heads, strict=True))
    cells += _html_details(row.details) if row.details else ""
    if row.run is None:
        kind = ' class="real"' if row.real else ""
        return f'<tr{kind}><td class="name">{escape(row.label)}</td>{cells}</tr>'
    chip = f'<span class="chip" style="background:{COLOURS[row.run % len(COLOURS)]}"></span>'
    label = f'<span class="label">{escape(row.label)}</span>' if row.label else ""
    name = re.sub("([_/-])", r"\1<wbr>", escape(row.name))
    return f'<tr><td class="name"><span class="who">{chip}<span>{name}{label}</span></span></td>{cells}</tr>'


def _html_cell(cell: Cell | str | None, head: str) -> str:
    if not isinstance(cell, Cell):
        return f"<td{head}>{escape(cell)}</td>" if cell else "<td></td>"
    mark, group, why = cell.verdict.mark, cell.verdict.group, cell.verdict.why
    tag = f'<span class="tag">{MARKS[mark]}</span>' if mark in MARKS else ""
    reason = f' title="not ranked: {escape(why)}"' if why else ""
    letter = f"<sup>{group}</sup>" if group else ""
    return f'<td class="{f"number {mark}".strip()}"{head}{reason}>{escape(cell.text)}{letter}{tag}</td>'


def _html_details(details: Mapping[str, Any]) -> str:
    items = "".join(f"<dt>{escape(str(key))}</dt><dd>{escape(short(value))}</dd>" for key, value in details.items())
    return f"<td><details><summary>how</summary><dl>{items}</dl></details></td>"


def short(value: Any) -> str:
    """A value of a protocol in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {short(item)}" for key, item in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)

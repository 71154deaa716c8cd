"""Tables as plain values, and their three writers: text, HTML, Markdown."""

import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lightning_gen.results.page import render
from lightning_gen.results.ranking import Entry, Verdict

MARKS = {"best": "best", "tie": "tied", "leads": "leads"}  # what a verdict is called beside a number
COLOURS = (
    *("#2563a8", "#d1632f", "#2f8f5b", "#8c4fa8", "#a88a1d", "#3a9fb0"),
    *("#b03a5b", "#6b6b6b", "#e58fb5", "#17324f", "#7a4a21", "#93c24a"),
)
WIDTH = 100  # columns of a terminal
NARROW = 6  # to which a column of text is broken at most
ACROSS = 12  # columns of a page beside one another


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
    def number(self) -> str:
        """The value and its error."""
        return number(self.value, self.error)

    @property
    def text(self) -> str:
        """The number as it is read."""
        return self.number + self.words

    @property
    def tag(self) -> str:
        """Its verdict as a word, "" where there is none."""
        return MARKS.get(self.verdict.mark, "")

    @property
    def strong(self) -> bool:
        """Whether it is set in bold."""
        return self.verdict.mark in ("best", "least")


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

    @property
    def heading(self) -> str:
        """What it is of, in one line."""
        return f"{self.name} {self.label}".strip()

    @property
    def colour(self) -> str:
        """That of its run in every picture, "" for a row of no run."""
        return "" if self.run is None else COLOURS[self.run % len(COLOURS)]

    def folded(self) -> dict[str, str]:
        """The details, each value in one line."""
        return {str(key): short(value) for key, value in self.details.items()}


@dataclass
class Block:
    """Rows between which nothing but what is compared differs, unless a letter says so."""

    title: str
    rows: list[Row]


@dataclass
class Table:
    """A title, a sentence, columns after the one that says what a row is of, blocks, and what the reader must know.

    Of that `unranked` says which numbers are not ranked with each other, and `notes` all else.
    """

    title: str
    about: str
    columns: list[str]
    blocks: list[Block]
    notes: list[str] = field(default_factory=list)
    unranked: list[str] = field(default_factory=list)
    head: str = ""

    def rows(self) -> Iterator[Row]:
        """The rows of all blocks."""
        for block in self.blocks:
            yield from block.rows

    def numeric(self) -> list[bool]:
        """Of each column, whether it has numbers alone."""
        columns = zip(*(row.cells for row in self.rows()), strict=True)
        return [all(isinstance(cell, Cell | None) for cell in column) for column in columns]

    def parts(self, most: int = ACROSS) -> list["Table"]:
        """The same with at most so many columns each, about as many in every part, the notes in the last."""
        count = max(1, -(-len(self.columns) // most))
        ends = [round(i * len(self.columns) / count) for i in range(count + 1)]
        return [
            replace(
                self,
                columns=self.columns[first:end],
                blocks=[
                    replace(block, rows=[replace(row, cells=row.cells[first:end]) for row in block.rows])
                    for block in self.blocks
                ],
                notes=self.notes if end == ends[-1] else [],
                unranked=self.unranked if end == ends[-1] else [],
            )
            for first, end in zip(ends, ends[1:], strict=False)
        ]


def number(value: float, error: float | None = None) -> str:
    """3.172 +- 0.021 with two digits of the error, or four significant digits."""
    if error is None or not math.isfinite(error) or not math.isfinite(value) or error <= 0:
        return f"{value:.4g}" if abs(value) < 1e4 or not math.isfinite(value) else f"{value:,.0f}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:,.{digits}f} ± {error:,.{digits}f}"


def text(table: Table) -> str:
    """Columns side by side for a terminal of WIDTH columns, the notes below; a column that is empty is left out."""
    rows = [[table.head, *table.columns], *([row.heading, *row.texts()] for row in table.rows())]
    columns = [column for i, column in enumerate(zip(*rows, strict=True)) if i == 0 or any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH and max(widths) > NARROW:
        widths[widths.index(max(widths))] -= 1
    head, *body = (_lines(row, widths) for row in zip(*columns, strict=True))
    rule = "-" * max(len(line) for row in (head, *body) for line in row)
    lines = [*head, rule]
    for i, block in enumerate(table.blocks):
        lines += [""] * bool(i) + textwrap.wrap(block.title, WIDTH)
        lines += [line for _ in block.rows for line in body.pop(0)]
    said = [*table.unranked, *table.notes]
    notes = [line for note in said for line in textwrap.wrap(note, WIDTH, subsequent_indent="  ")]
    return "\n".join([*lines, rule, *notes] if notes else lines)


def _lines(row: tuple[str, ...], widths: list[int]) -> list[str]:
    """The lines of a row, whose cells are broken to the widths of their columns."""
    broken = [textwrap.wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
    return [
        "  ".join((cell[i] if i < len(cell) else "").ljust(width) for cell, width in zip(broken, widths, strict=True))
        .rstrip()
        for i in range(max(map(len, broken)))
    ]  # fmt: skip


def markdown(table: Table, level: int = 2) -> str:
    """Markdown under a heading of that level; nothing for a table without rows."""
    return render("table.md", table=table, level=level)


def html(table: Table) -> str:
    """A part of a page; on a narrow screen each row is a card."""
    return render("table.html", table=table)


def short(value: Any) -> str:
    """A value of a protocol in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {short(item)}" for key, item in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)

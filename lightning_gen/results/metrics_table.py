"""The numbers of one run as a table: a row a quantity, quality first, real data beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_gen.results.ranking import count
from lightning_gen.results.result import HELD_OUT, Name, name_of
from lightning_gen.results.tables import Block, Cell, Row, Table

COLUMNS = ["model", "at held-out's N", "held-out"]
QUALITY, LIKELIHOOD, OTHERS = "Sample quality", "Likelihood", "Other numbers"
FIRST = {QUALITY: 3, LIKELIHOOD: 2}  # of the numbers that a reader looks at first
Entry = Mapping[str, Any]


@dataclass
class _Line:
    """The numbers of one row: of all samples, of as many as there are held-out ones, and of these."""

    name: Name
    whole: Entry | None = None
    alike: Entry | None = None
    real: Entry | None = None

    def entries(self) -> list[Entry]:
        """Those that are there."""
        return [entry for entry in (self.whole, self.alike, self.real) if entry is not None]


def metrics_table(metrics: Mapping[str, Entry]) -> Table:
    """metrics.json as a table: of the model, of as many of its samples as there are held-out ones, of held-out data.

    Held-out data stand beside as many samples alone: another N has another bias.
    """
    lines = _lines({name_of(text, entry): entry for text, entry in metrics.items()})
    blocks: dict[tuple[int, str], list[_Line]] = {}
    for line in lines:
        blocks.setdefault(_block(line), []).append(line)
    several = {line.name.subject for line in lines if sum(o.name.subject == line.name.subject for o in lines) > 1}
    given = "samples" in {line.name.weights for line in lines}  # somebody else's, of whose model nothing is known
    columns = ["samples", *COLUMNS[1:]] if given else COLUMNS
    notes = [f"{', '.join(dict.fromkeys(of))}: {flag}" for flag, of in _flags(lines).items()]
    if any(entry.get("kind", "estimate") == "estimate" for line in lines for entry in line.entries()):
        notes.append("± one standard error; ↓ less is better, ↑ more is; an estimate where no other kind is said.")
    return Table(
        "Metrics",
        "",
        columns,
        [
            Block(_title(title, own), [_row(line, several) for line in own])
            for (_, title), own in sorted(blocks.items())
        ],
        notes,
    )


def first_rows(table: Table, most: int = 5) -> list[Row]:
    """The rows that a reader looks at first: three of quality, two likelihoods, then whatever there is."""
    rows = [(block, row) for block in table.blocks for row in block.rows if row.cells[0] is not None]
    chosen: list[Row] = []
    for word, number in FIRST.items():
        chosen += [row for block, row in rows if block.title.startswith(word)][:number]
    chosen += [row for _, row in rows if not any(row is other for other in chosen)]
    return chosen[:most]


def _lines(numbers: Mapping[Name, Entry]) -> list[_Line]:
    """The numbers in rows, in the order in which they were published."""
    real = {name.subject: entry for name, entry in numbers.items() if name.weights == HELD_OUT}
    lines: dict[tuple[str, str | None], _Line] = {}
    for name, entry in numbers.items():
        if name.weights == HELD_OUT:
            continue
        line = lines.setdefault((name.subject, name.weights), _Line(name))
        held_out = real.get(name.subject)
        if held_out is not None and _count(held_out) == _count(entry):
            line.real = held_out
        if name.n is None:
            line.name, line.whole = name, entry
        else:
            line.alike = entry
    shown = {line.name.subject for line in lines.values() if line.real is not None}
    alone = [name for name in numbers if name.weights == HELD_OUT and name.subject not in shown]
    return [*lines.values(), *(_Line(name, real=numbers[name]) for name in alone)]


def _block(line: _Line) -> tuple[int, str]:
    """Where a line stands: quality first, then likelihoods."""
    about, entry = line.name.about, line.entries()[0]
    if "features" in (entry.get("protocol") or {}):
        return 0, f"{QUALITY}, {line.name.features or 'unnamed'} features"
    return (1, LIKELIHOOD) if about.likelihood and entry.get("unit") else (2, OTHERS)


def _title(title: str, lines: list[_Line]) -> str:
    """The title of a block, and the number of samples where it is one."""
    words = [title]
    for side, word in (("whole", "N"), ("real", "held-out N")):
        counts = {_count(entry) for line in lines if (entry := getattr(line, side)) is not None}
        if len(counts) == 1 and isinstance(n := counts.pop(), int) and n:
            words.append(f"{word} = {n:,}")
    return ", ".join(words)


def _row(line: _Line, several: set[str]) -> Row:
    entry, name = line.entries()[0], line.name
    words = name.words + (f", {name.weights}" if name.subject in several and name.weights else "")
    unit = entry.get("unit") or ""
    label = f"{words}, {unit}" if unit and unit not in words else words
    cells = [_cell(part) for part in (line.whole, line.alike, line.real)]
    details = {"in metrics.json": str(name), "kind": entry.get("kind") or "", "unit": unit}
    details |= {**(entry.get("protocol") or {}), **(entry.get("observed") or {})}
    details = {key: value for key, value in details.items() if value != ""}
    return Row(None, f"{label} {name.arrow}".strip(), cells, details=details)


def _cell(entry: Entry | None) -> Cell | None:
    """A number, and its kind where it is no estimate."""
    if entry is None:
        return None
    kind = entry.get("kind") or "estimate"
    return Cell(entry["value"], entry.get("error"), "" if kind == "estimate" else f" ({kind})")


def _count(entry: Entry) -> Any:
    """How many samples a number was measured on, 0 if it does not say."""
    return count(entry.get("protocol") or {})


def _flags(lines: list[_Line]) -> dict[str, list[str]]:
    """What protocols say is doubtful, and of which numbers."""
    flags: dict[str, list[str]] = {}
    for line in lines:
        for entry in line.entries():
            for flag in (entry.get("protocol") or {}).get("flags", ()):
                side = {id(line.alike): " at held-out's N", id(line.real): " of held-out data"}.get(id(entry), "")
                flags.setdefault(flag, []).append(line.name.words + side)
    return flags

"""The tables of a comparison as plain values: what stands in which row, what may be ranked, and why not."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_gen.results.ranking import (
    HELD_OUT,
    NOTED,
    Entry,
    Verdict,
    classes,
    differences,
    direction,
    is_likelihood,
    judged,
    protocol,
)
from lightning_gen.results.sampler_table import number

ORDER = ("fid", "fid_inf", "kid", "is", "sharpness", "diversity", "precision", "recall", "density", "coverage")
NAMES = {"fid": "FID", "fid_inf": "FID∞", "kid": "KID", "is": "IS"}


@dataclass
class Run:
    """A folder that takes part: how it is called here, where it is, its config and its numbers."""

    name: str
    path: Path
    config: dict[str, Any]
    entries: list[Entry]
    steps: list[int] = field(default_factory=list)

    @property
    def family(self) -> str:
        """The class of its module; a dash where the samples are somebody else's."""
        theirs = self.config.get("samples") or not self.config.get("module")
        return "—" if theirs else self.config["module"]["_target_"].rpartition(".")[2]

    @property
    def dimension(self) -> int | None:
        """How many values a sample has, where the config says."""
        shape = (self.config.get("module") or {}).get("shape")
        return math.prod(shape) if shape else None

    def said(self, key: str) -> list[Any]:
        """What the protocols of its own numbers say of a key, each value once."""
        own = [entry for entry in self.entries if entry.label != HELD_OUT]
        own = [entry for entry in own if "features" in entry.protocol] or own  # a likelihood has evaluations of its own
        values = [entry.protocol[key] for entry in own if key in entry.protocol]
        return [value for place, value in enumerate(values) if value not in values[:place]]


@dataclass
class Cell:
    """A number as it is shown, and what may be said of it."""

    text: str
    verdict: Verdict
    entry: Entry


@dataclass
class Row:
    """run: its place, or None for real data. label: which weights, or by which method."""

    run: int | None
    label: str
    cells: list[Cell | str | None]


@dataclass
class Block:
    """Rows between which nothing but what is compared differs, unless a letter says so."""

    title: str
    rows: list[Row]


@dataclass
class Table:
    """A title, a sentence, columns, blocks, and what the reader must know."""

    title: str
    about: str
    columns: list[str]
    blocks: list[Block]
    notes: list[str] = field(default_factory=list)


def quality(runs: Sequence[Run]) -> list[Table]:
    """A table for each kind of features: a column a metric, a block for each number of samples."""
    found = [entry for run in runs for entry in run.entries if "features" in entry.protocol]
    places = dict.fromkeys(entry.quantity.partition("/")[2] for entry in found)
    return [_quality(place, [e for e in found if e.quantity.partition("/")[2] == place], runs) for place in places]


def _quality(place: str, found: list[Entry], runs: Sequence[Run]) -> Table:
    heads = sorted({e.head for e in found}, key=lambda head: (ORDER.index(head) if head in ORDER else 99, head))
    kinds = {head: {e.kind for e in found if e.head == head} for head in heads}
    table = Table(
        f"Sample quality, {place} features",
        "A row a run and its weights. Rows of another N have another bias and are not ranked with those above.",
        [heading(next(e for e in found if e.head == head), kinds[head]) for head in heads],
        [],
    )
    facts: dict[str, list[str]] = {}
    for n in sorted({entry.n for entry in found}, reverse=True):
        here = [entry for entry in found if entry.n == n]
        verdicts = {}
        for head in heads:
            verdicts |= judged(entry for entry in here if entry.head == head)
        rows = []
        for run, label in dict.fromkeys((entry.run, entry.label) for entry in here):
            own = {entry.head: entry for entry in here if (entry.run, entry.label) == (run, label)}
            row = Row(
                None if label == HELD_OUT else run,
                "real data held out" if label == HELD_OUT else own[next(iter(own))].weights,
                [cell(own[h], verdicts[own[h]], len(kinds[h]) > 1) if h in own else None for h in heads],
            )
            if label != HELD_OUT or shown(row) not in [shown(other) for other in rows]:
                rows.append(row)
        rows.sort(key=lambda row: row.run is None)
        real = [row for row in rows if row.run is None]
        for row in real if len(real) > 1 else ():  # whose reference they are held against
            row.label += f", for {runs[next(c.entry.run for c in row.cells if isinstance(c, Cell))].name}"
        table.blocks.append(Block(_told(n, here), rows))
        real = {row.run for row in rows if row.run is not None}
        if len(real) == 1 and len(runs) > 1:
            table.notes.append(f"{runs[real.pop()].name} alone has N = {n:,}: not ranked with the others.")
        for head in heads:
            for fact in unlike([e for e in here if e.head == head], runs):
                facts.setdefault(fact, []).append(heading_word(head))
    table.notes += notes(facts)
    return table


def _told(n: int, found: Sequence[Entry]) -> str:
    """N, and what the numbers were held against, where it is one thing."""
    against = {tuple(str(e.protocol.get(key, "")) for key in ("n_reference", "reference", "data")) for e in found}
    words = [f"N = {n:,}" if n else "N is not said"]
    if len(against) == 1 and all(told := against.pop()):
        words.append(f"against the {told[0]} of the {told[1]} split of {told[2]}")
    return " · ".join(words)


def others(runs: Sequence[Run]) -> list[Table]:
    """Every number that stands in no other table: a row a number, a column a run."""
    found = [e for run in runs for e in run.entries if "features" not in e.protocol and not is_likelihood(e)]
    if not found:
        return []
    table = Table("Other numbers", "A row a number and the weights that it is of.", [run.name for run in runs], [])
    facts: dict[str, list[str]] = {}
    for head in dict.fromkeys(entry.head for entry in found):
        rows = []
        for quantity in dict.fromkeys(e.quantity for e in found if e.head == head):
            here = [entry for entry in found if entry.quantity == quantity]
            verdicts = judged(here)
            for label in dict.fromkeys(entry.label for entry in here):
                own = {entry.run: entry for entry in here if entry.label == label}
                cells = [cell(own[i], verdicts[own[i]], True) if i in own else None for i in range(len(runs))]
                rows.append(Row(None, f"{quantity}/{label}".strip("/"), cells))
            for fact in unlike(here, runs):
                facts.setdefault(fact, []).append(quantity)
        table.blocks.append(Block(head, rows))
    table.notes += notes(facts)
    return [table]


def cell(entry: Entry, verdict: Verdict, kind: bool) -> Cell:
    """A number with its error, and its kind where the heading does not say it."""
    told = [entry.unit] * (kind and bool(entry.unit)) + [entry.kind] * kind
    return Cell(number(entry.value, entry.error) + (f" ({', '.join(told)})" if told else ""), verdict, entry)


def shown(row: Row) -> list[str | None]:
    """The row's numbers as they are read."""
    return [found.text if isinstance(found, Cell) else found for found in row.cells]


def heading_word(head: str) -> str:
    """FID for fid."""
    return NAMES.get(head, head.replace("_", " "))


def heading(entry: Entry, kinds: Iterable[str]) -> str:
    """The metric, which way is better, and the kind where it is one."""
    arrow = {-1: " ↓", 0: "", 1: " ↑"}[direction(entry.quantity)]
    kinds = list(kinds)
    return heading_word(entry.head) + arrow + (f", {kinds[0]}" if len(kinds) == 1 else "")


def unlike(found: Sequence[Entry], runs: Sequence[Run]) -> list[str]:
    """What parts the numbers of one column, so that they are not ranked, and what differs and is only noted."""
    found = [entry for entry in found if entry.label != HELD_OUT]
    parts = classes(found)
    apart = differences(protocol(part[0]) for part in parts)
    letters = [judged(found)[part[0]].group for part in parts]
    facts = []
    for key, values in apart.items():
        told = "; ".join(f"{letter} {value_of(value)}" for letter, value in zip(letters, values, strict=True))
        facts.append(f"Not ranked across {spoken(key)} ({told})")
    for key in (*NOTED, "quantisation"):
        values = {runs[e.run].name: value_of(e.protocol[key]) for e in found if key in e.protocol and key not in apart}
        if len(set(values.values())) > 1:
            told = ", ".join(f"{name} {value}" for name, value in values.items())
            facts.append(f"Ranked all the same, though {spoken(key)} differs ({told})")
    return facts


def notes(facts: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence for each fact, with the columns, or the rows, that it is true of."""
    return [f"{fact}: {', '.join(dict.fromkeys(columns))}." for fact, columns in facts.items()]


def spoken(key: str) -> str:
    """A key of a protocol in words."""
    return {"n": "N", "of": "what is estimated"}.get(key, key.replace("_", " "))


def value_of(value: Any) -> str:
    """A value of a protocol, short."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {value_of(item)}" for key, item in value.items())
    if isinstance(value, str) and len(value) > 40 and all(c in "0123456789abcdef" for c in value):
        return value[:12] + "…"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

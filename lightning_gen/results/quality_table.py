"""Tables of sample quality, and of every number that stands in no other table."""

from collections.abc import Iterable, Mapping, Sequence

from lightning_gen.metrics.registry import quantity_of
from lightning_gen.results.compared import Run, value_of, words_of
from lightning_gen.results.ranking import (
    NOTED,
    Entry,
    Verdict,
    classes,
    differences,
    is_likelihood,
    protocol,
    verdicts,
)
from lightning_gen.results.tables import Block, Cell, Row, Table

Facts = dict[str, list[str]]  # a sentence, and the columns or rows that it is true of


def quality_tables(runs: Sequence[Run]) -> list[Table]:
    """A table for each kind of features: a column a metric, a block for each number of samples."""
    numbers = [entry for run in runs for entry in run.entries if "features" in entry.protocol]
    kinds = dict.fromkeys(entry.name.features or "" for entry in numbers)
    return [_quality(features, [e for e in numbers if (e.name.features or "") == features], runs) for features in kinds]


def _quality(features: str, numbers: list[Entry], runs: Sequence[Run]) -> Table:
    columns: dict[str, list[Entry]] = {}
    for entry in numbers:
        columns.setdefault(entry.name.quantity, []).append(entry)
    kinds = {quantity: {entry.kind for entry in column} for quantity, column in columns.items()}
    table = Table(
        f"Sample quality, {features} features",
        "A row a run and its weights. Rows of another N have another bias and are not ranked with those above.",
        [heading(column[0], kinds[quantity]) for quantity, column in columns.items()],
        [],
    )
    unranked: Facts = {}
    noted: Facts = {}
    for n in sorted({entry.n for entry in numbers}, reverse=True):
        ranked: dict[Entry, Verdict] = {}
        for quantity, column in columns.items():
            same = [entry for entry in column if entry.n == n]
            ranked |= verdicts(same)
            _collect((unranked, noted), unlike(same, runs), quantity_of(quantity).title)
        rows = _rows(ranked, kinds, runs)
        table.blocks.append(Block(_block_title(n, ranked), rows))
        table.unranked += _alone(n, rows) if len(runs) > 1 else []
    table.unranked += sentences(unranked)
    table.notes += sentences(noted)
    return table


def _alone(n: int, rows: Sequence[Row]) -> list[str]:
    """A sentence where one run alone has that many samples."""
    names = {row.run: row.name for row in rows if not row.real}
    return [f"{name} alone has N = {n:,}: not ranked with the others." for name in names.values() if len(names) == 1]


def _collect(facts: Iterable[Facts], sentences: Iterable[Iterable[str]], where: str) -> None:
    for known, said in zip(facts, sentences, strict=True):
        for sentence in said:
            known.setdefault(sentence, []).append(where)


def _rows(ranked: Mapping[Entry, Verdict], kinds: Mapping[str, set[str]], runs: Sequence[Run]) -> list[Row]:
    """A row a run and its weights, then the real data that they are held against, each once."""
    groups: dict[tuple[int, str], dict[str, Entry]] = {}
    for entry in sorted(ranked, key=lambda entry: entry.run):
        groups.setdefault((entry.run, entry.name.label), {})[entry.name.quantity] = entry
    rows, real = [], []
    for (run, _), own in groups.items():
        cells = [cell(own[q], ranked[own[q]], len(kinds[q]) > 1) if q in own else None for q in kinds]
        first = next(iter(own.values()))
        row = Row(run, first.name.weights or "", cells, runs[run].name, first.real)
        if not row.real:
            rows.append(row)
        elif row.texts() not in [other.texts() for other in real]:
            real.append(row)
    for row in real:  # whose reference they are held against
        row.label = "real data held out" + (f", for {row.name}" if len(real) > 1 else "")
        row.run, row.name = None, ""
    return rows + real


def _block_title(n: int, numbers: Iterable[Entry]) -> str:
    """N, and what the numbers were held against, where it is one thing."""
    against = {tuple(str(e.protocol.get(key, "")) for key in ("n_reference", "reference", "data")) for e in numbers}
    words = [f"N = {n:,}" if n else "N is not said"]
    if len(against) == 1 and all(reference := against.pop()):
        words.append(f"against the {reference[0]} of the {reference[1]} split of {reference[2]}")
    return " · ".join(words)


def other_tables(runs: Sequence[Run]) -> list[Table]:
    """Every number that stands in no other table: a row a number, a column a run."""
    numbers = [e for run in runs for e in run.entries if "features" not in e.protocol and not is_likelihood(e)]
    if not numbers:
        return []
    table = Table("Other numbers", "A row a number and the weights that it is of.", [run.name for run in runs], [])
    unranked: Facts = {}
    noted: Facts = {}
    subjects: dict[str, list[Entry]] = {}
    for entry in numbers:
        subjects.setdefault(entry.name.subject, []).append(entry)
    blocks: dict[str, list[Row]] = {}
    for subject, same in subjects.items():
        blocks.setdefault(same[0].name.group, []).extend(_rows_by_label(same, len(runs)))
        _collect((unranked, noted), unlike(same, runs), subject)
    table.blocks = [Block(group, rows) for group, rows in blocks.items()]
    table.unranked, table.notes = sentences(unranked), sentences(noted)
    return [table]


def _rows_by_label(same: Sequence[Entry], columns: int) -> list[Row]:
    """The rows of one quantity, one for each of its weights."""
    ranked, rows = verdicts(same), []
    for name in dict.fromkeys(str(entry.name) for entry in same):
        own = {entry.run: entry for entry in same if str(entry.name) == name}
        cells = [cell(own[i], ranked[own[i]], True) if i in own else None for i in range(columns)]
        rows.append(Row(None, name, cells))
    return rows


def cell(entry: Entry, verdict: Verdict, kind: bool) -> Cell:
    """A number with its error, and its unit and kind where the heading does not say them."""
    words = ", ".join(word for word in (entry.unit, entry.kind) if word) if kind else ""
    return Cell(entry.value, entry.error, f" ({words})" if words else "", verdict, entry)


def heading(entry: Entry, kinds: Iterable[str]) -> str:
    """The metric, which way is better, and the kind where it is one."""
    kinds = list(kinds)
    title = f"{entry.name.about.title} {entry.name.arrow}".strip()
    return title + (f", {kinds[0]}" if len(kinds) == 1 else "")


def unlike(numbers: Sequence[Entry], runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """What parts the numbers of one column, so that they are not ranked, and what differs between them all the same."""
    numbers = [entry for entry in numbers if not entry.real]
    parts, ranked = classes(numbers), verdicts(numbers)
    apart = differences(protocol(part[0]) for part in parts)
    letters = [ranked[part[0]].group for part in parts]
    unranked, noted = [], []
    for key, values in apart.items():
        each = "; ".join(f"{letter} {value_of(value)}" for letter, value in zip(letters, values, strict=True))
        unranked.append(f"Not ranked across {words_of(key)} ({each})")
    for key in (*NOTED, "quantisation"):
        known = [entry for entry in numbers if key in entry.protocol and key not in apart]
        values = {runs[entry.run].name: value_of(entry.protocol[key]) for entry in known}
        if len(set(values.values())) > 1:
            each = ", ".join(f"{name} {value}" for name, value in values.items())
            noted.append(f"Ranked all the same, though {words_of(key)} differs ({each})")
    return unranked, noted


def sentences(facts: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence for each fact, with the columns, or the rows, that it is true of."""
    return [f"{fact}: {', '.join(dict.fromkeys(columns))}." for fact, columns in facts.items()]

"""docs/results.md, written from docs/results/*.json and the list of tables alone."""

import shlex
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.recipes.record import entry, load, picture
from benchmarks.recipes.tables import ROOT, Cell, Table, tables, value
from lightning_gen.results.result import Kind, Name
from lightning_gen.results.store import write_atomically
from lightning_gen.results.tables import number

PAGE = ROOT / "docs" / "results.md"
# Before a likelihood: of which kind it is.
SIGNS: dict[Kind, str] = {"exact": "", "lower bound": "≥ ", "upper bound": "≤ ", "estimate": "≈ ", "KDE": "KDE "}
HEAD = """# Results

Each number here was trained and measured by the command in its row. `make results` trains what is missing, and goes on
where it was stopped; `make results-check` measures the exports that it left in `outputs/results` again, and compares.

```
make results ARGS="--left"                      # the hours that are left
make results ARGS="--only digits --hours 2"     # stops by itself, saved; the same command goes on
make results-check
```

A number is the mean over the seeds ± its standard error (their deviation / √seeds). Where one seed has been trained,
the error is the evaluation's, and *one seed* stands beside it. *Minutes* are CPU minutes of training, on one thread,
validation left out; *CPU minutes* those of all that the command does, measuring included. Other versions,
processors or numbers of threads train other weights: they agree within the errors, not to the digit. The classifier
of the data, whose features are compared, is trained too: what another kind of processor's has measured is refused in
the same table. Before a
likelihood ≥ marks a lower bound, ≤ an upper bound, ≈ an estimate; without a mark it is exact.
"""


def line(cells: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def spread(found: list[dict[str, Any]]) -> str:
    """Mean and standard error over seeds; of one seed, its own."""
    values = [x["value"] for x in found]
    if len(values) == 1:
        return f"{number(values[0], found[0]['error'])} (one seed)"
    return number(statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5)


def shown(table: Table, column: str, trained: list[dict[str, Any]]) -> str:
    """The cell of a column: one number of each run, all of one kind, over the seeds that have been trained."""
    found = [
        (Name.parse(key), x)
        for e in trained
        for key, x in e["numbers"].items()
        if Name.parse(key).subject in table.columns[column]
    ]
    if not found:
        return "–"
    kinds = {x["kind"] for _, x in found}
    if len(found) != len(trained) or len(kinds) > 1:
        raise ValueError(
            f"{table.name}: the column {column} has {len(found)} numbers of {len(trained)} runs, of kind "
            f"{' and '.join(sorted(kinds))}, expected one of each, of one kind: show them in columns of their own"
        )
    sign = SIGNS[kinds.pop()] if found[0][0].about.likelihood else ""
    return sign + spread([x for _, x in found])


def of_seeds(values: Iterable[Any]) -> str:
    """Equal values once, different ones in turn."""
    return ", ".join(dict.fromkeys(str(value) for value in values))


def evaluations(trained: Mapping[str, Any], stored: Mapping[str, Any]) -> set[float]:
    """Network evaluations a sample, by the protocols of its numbers."""
    protocols = (stored["protocols"][x["protocol_hash"]] for x in trained["numbers"].values())
    return {protocol["evaluations"] for protocol in protocols if "evaluations" in protocol}


def rows(table: Table, stored: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Of each row, what is stored of its seeds."""
    found = {row: [entry(Cell(table, row, seed), stored) for seed in table.seeds] for row in table.rows}
    return {row: [e for e in entries if e is not None] for row, entries in found.items()}


def typed(trained: Mapping[str, Any]) -> str:
    """What follows run.py in a shell, and of a peer what writes the samples that it measures; without the seed."""

    def text(words: list[str]) -> str:
        return shlex.join(word for word in words if not word.lstrip("-").startswith("seed="))

    if "peer" not in trained:
        return f"`{text(trained['words'])}`"
    return f"`{text(trained['words'])} samples=FILE`, FILE by `python {text(trained['peer'])} --file=FILE`"


def efforts(table: Table, entries: list[dict[str, Any]], stored: Mapping[str, Any]) -> list[str]:
    """What a row took: steps and minutes of a training, evaluations of a sampler."""
    if table.of is not None:
        return [of_seeds(f"{calls:.4g}" for e in entries for calls in evaluations(e, stored))]
    known = [e["minutes"] for e in entries if e["minutes"] is not None]
    return [of_seeds(f"{e['steps']:,}" for e in entries), f"{statistics.mean(known):.1f}" if known else "–"]


def numbers_of(table: Table, trained: Mapping[str, list[dict[str, Any]]], stored: Mapping[str, Any]) -> list[str]:
    """The table of the rows that have numbers."""
    head = ["", *table.columns, *(["steps", "minutes"] if table.of is None else ["evaluations"]), "seeds"]
    lines = [line(head), line("---" for _ in head)]
    for row, entries in trained.items():
        cells = [shown(table, column, entries) for column in table.columns]
        experiment = value(list(table.rows[row]), "experiment=")
        name = f"{row} (`{experiment}`)" if experiment else row
        lines.append(line([name, *cells, *efforts(table, entries, stored), str(len(entries))]))
    return lines


def commands_of(trained: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """The table of what was run."""
    head = ["", "`python run.py …`", "CPU minutes", "config", "protocols", "code"]
    lines = [line(head), line("---" for _ in head)]
    for row, entries in trained.items():
        minutes = ", ".join(f"{e['cpu_minutes']:.1f}" for e in entries)
        protocols = dict.fromkeys(x["protocol_hash"][:6] for e in entries for x in e["numbers"].values())
        configs, commits = (of_seeds(e[key][:8] for e in entries) for key in ("config", "commit"))
        least = "≥ " if any(e["unseen"] for e in entries) else ""
        lines.append(line([row, typed(entries[0]), least + minutes, configs, ", ".join(protocols), commits]))
    return lines


def pictures_of(table: Table, trained: Iterable[str]) -> list[str]:
    """Samples of the rows, three in a line."""
    cells = [Cell(table, row, table.seeds[0]) for row in trained]
    drawn = [cell for cell in cells if table.pictures and picture(cell).exists()]
    if not drawn:
        return []
    images = [f"![samples of {cell.row}](results/{picture(cell).name})<br>{cell.row}" for cell in drawn]
    images += [""] * (-len(images) % 3)
    lines = [line([""] * 3), line(["---"] * 3), *(line(images[i : i + 3]) for i in range(0, len(images), 3))]
    return [f"The first samples of each, seed {table.seeds[0]}:", "", *lines, ""]


def section(table: Table) -> list[str]:
    """A table, what was run, where and by which versions, and what has not been measured."""
    stored = load(table)
    every = rows(table, stored)
    trained = {row: entries for row, entries in every.items() if entries}
    lines = [f"## {table.title}", "", table.about.strip(), ""]
    if trained:
        seeds = [seed for seed in table.seeds if any(entry(Cell(table, row, seed), stored) for row in trained)]
        places = dict.fromkeys(
            f"{e['machine']}: {', '.join(f'{name} {version}' for name, version in e['versions'].items())}"
            for entries in trained.values()
            for e in entries
        )
        lines += [*numbers_of(table, trained, stored), "", *pictures_of(table, trained)]
        lines += [
            f"What was run, with the seeds {', '.join(map(str, seeds))}:"
            if seeds[1:]
            else f"What was run, seed {seeds[0]}:",
            "",
            *commands_of(trained),
            "",
        ]
        lines += [
            f"On {'; on '.join(places)}. Hashes are the first digits of those in `docs/results/{table.name}.json`.",
            "",
        ]
    if missing := [row for row in every if row not in trained]:
        lines += [f"Not measured yet: {'; '.join(missing)}.", ""]
    return lines


def render() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(text for table in tables().values() for text in section(table))])


def write() -> None:
    """Write it."""
    write_atomically(PAGE, render().encode())

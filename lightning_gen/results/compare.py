"""stage=compare: runs side by side on one page, in HTML, in Markdown and as JSON, from their folders alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_gen.config.fixed import leaves
from lightning_gen.config.root import IDENTITY
from lightning_gen.results.compared import Run, names, read, value_of
from lightning_gen.results.likelihood_table import likelihood_tables
from lightning_gen.results.page import Picture, render
from lightning_gen.results.pictures.comparison import pictures
from lightning_gen.results.quality_table import other_tables, quality_tables
from lightning_gen.results.ranking import ABSENT, differences
from lightning_gen.results.store import plain, write_atomically
from lightning_gen.results.tables import Block, Cell, Row, Table
from lightning_gen.runs.faults import comparison_faults

COMPARISON = "comparison"
LEGEND = (
    "best: better than every other number of its class by more than two combined standard errors",
    "tied: within two combined standard errors of the best value",
    "leads: the best value, but an error is not known, so it may be chance",
    "a, b, …: other protocols within one column, never ranked with each other",
)


def write_comparison(folder: str | Path, runs: Sequence[str | Path]) -> "Comparison":
    """Write comparison.html, .md and .json, and the Markdown's pictures, into `folder`; ValueError for bad input."""
    faults = comparison_faults([str(run) for run in runs])
    if faults:
        raise ValueError("; ".join(faults))
    comparison = Comparison([Path(run) for run in runs])
    comparison.write(Path(folder))
    return comparison


class Comparison:
    """Runs, their tables and their pictures."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.runs = [read(i, name, path) for i, (name, path) in enumerate(zip(names(paths), paths, strict=True))]
        self.measured = [*quality_tables(self.runs), *likelihood_tables(self.runs), *other_tables(self.runs)]
        self.tables, self.configs = [about(self.runs), *self.measured], configs(self.runs)
        self.summary = f"{len(self.runs)} runs: {', '.join(run.name for run in self.runs)}"
        self.pictures = pictures(self.runs)

    def write(self, folder: Path) -> list[Path]:
        """The files, each replaced as a whole; those that a person opens first."""
        beside: dict[str, Picture] = {}
        for picture in self.pictures:
            count = sum(other.section == picture.section for other in beside.values())
            beside[f"{COMPARISON}-{picture.section}-{count + 1}.png"] = picture
        for old in folder.glob(f"{COMPARISON}-*.png"):
            old.unlink()  # of an earlier comparison, that would be taken for one of this
        for name, picture in beside.items():
            write_atomically(folder / name, picture.data)
        values = {"title": "Comparison", "about": self.summary, "tables": self.tables, "legend": LEGEND}
        html = render("comparison.html", **values, configs=self.configs, pictures=self.pictures)
        files = [write_atomically(folder / f"{COMPARISON}.html", html.encode())]
        text = render("comparison.md", **values | {"tables": [*self.tables, self.configs]}, pictures=beside)
        files.append(write_atomically(folder / f"{COMPARISON}.md", text.encode()))
        content = {"runs": [{"name": run.name, "path": str(run.path)} for run in self.runs], "numbers": self.rows()}
        stored = json.dumps(plain(content), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        files.append(write_atomically(folder / f"{COMPARISON}.json", stored.encode()))
        return [*files, *(folder / name for name in beside)]

    def rows(self) -> list[dict[str, Any]]:
        """Every number of the tables, with what is said of it and how it was measured."""
        return [
            self._row(table.title, block.title, cell)
            for table in self.measured
            for block in table.blocks
            for row in block.rows
            for cell in row.cells
            if isinstance(cell, Cell) and cell.entry is not None
        ]

    def _row(self, table: str, block: str, cell: Cell) -> dict[str, Any]:
        entry, verdict = cell.entry, cell.verdict
        return {
            "table": table,
            "block": block,
            "run": self.runs[entry.run].name,
            "name": entry.name.subject,
            "weights": entry.name.label,
            "value": entry.value,
            "error": entry.error,
            "kind": entry.kind,
            "unit": entry.unit,
            "rank": verdict.mark,
            "class": verdict.group,
            "not_ranked": verdict.why,
            "protocol": entry.protocol,
        }

    def log(self, loggers: Sequence[Any]) -> None:
        """The numbers as a table of W&B, the Markdown as a text of TensorBoard."""
        columns = ["table", "block", "run", "name", "weights", "value", "error", "kind", "unit", "rank", "class"]
        columns += ["not_ranked"]
        data = [[row[column] for column in columns] for row in self.rows()]
        for logger in loggers:
            if hasattr(logger, "log_table"):
                logger.log_table(COMPARISON, columns, data)
            elif hasattr(logger.experiment, "add_text"):
                values = {"title": "Comparison", "about": self.summary, "tables": self.measured, "legend": LEGEND}
                logger.experiment.add_text(COMPARISON, render("comparison.md", **values, pictures={}))


def about(runs: Sequence[Run]) -> Table:
    """What each run is."""
    rows = [Row(i, "", [*_summary(run), str(run.path)], run.name) for i, run in enumerate(runs)]
    columns = ["family", "data", "weights", "step", "sampler", "evaluations", "seed", "folder"]
    return Table("Runs", "", columns, [Block("", rows)])


def _summary(run: Run) -> list[str]:
    """Family, data, weights, steps, samplers, evaluations and seed of a run; a dash for what it does not say."""
    samplers = [_sampler(value) for value in run.protocol_values("sampler")]
    scales = [value for value in run.protocol_values("guidance") if isinstance(value, int | float)]
    samplers += [f"guidance {value:g}" for value in scales]
    calls = run.protocol_values("evaluations")
    evaluations = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in calls)
    weights = dict.fromkeys(entry.name.weights for entry in run.entries if not entry.real and entry.name.weights)
    data = (run.config.get("data") or {}).get("_target_", "").rpartition(".")[2]
    seed = "" if run.config.get("samples") else str(run.config.get("seed", ""))
    steps = ", ".join(f"{step:,}" for step in run.steps)
    cells = [run.family, data, "/".join(weights), steps, "; ".join(samplers), evaluations, seed]
    return [cell or "—" for cell in cells]


def _sampler(value: Any) -> str:
    """A sampler as its name and its most telling options."""
    if not isinstance(value, dict):
        return str(value)
    options = [f"{key} {value_of(value[key])}" for key in ("steps", "eta", "rtol") if value.get(key) is not None]
    return " ".join([str(value.get("name", "?")), f"({', '.join(options)})" * bool(options)]).strip()


def configs(runs: Sequence[Run]) -> Table:
    """The keys in which the configs differ; a row a key."""
    flat = [{k: v for k, v in leaves(run.config) if k.split(".")[0] in IDENTITY} for run in runs]
    rows = [
        Row(None, key, ["" if value == ABSENT else str(value) for value in values])
        for key, values in differences(flat).items()
    ]
    return Table("Differences of the configs", "", [run.name for run in runs], [Block("", rows)] if rows else [])

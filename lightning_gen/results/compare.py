"""stage=compare: runs side by side on one page, in HTML, in Markdown and as JSON, from their folders alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_gen.config.root import IDENTITY
from lightning_gen.results.figures import pictures
from lightning_gen.results.likelihood_table import likelihood
from lightning_gen.results.page import TITLE, Picture, markdown, names, page
from lightning_gen.results.ranking import ABSENT, HELD_OUT, differences, entries
from lightning_gen.results.store import plain, write_atomically
from lightning_gen.results.tables import Block, Cell, Row, Run, Table, others, quality, value_of
from lightning_gen.runs.folder import RunFolder, comparison_faults, leaves, read_metrics

COMPARISON = "comparison"


def write_comparison(folder: str | Path, runs: Sequence[str | Path]) -> "Comparison":
    """Write comparison.html, .md and .json, and the Markdown's pictures, into `folder`; ValueError for bad input."""
    faults = comparison_faults([str(run) for run in runs])
    if faults:
        raise ValueError("; ".join(faults))
    found = Comparison([Path(run) for run in runs])
    found.write(Path(folder))
    return found


class Comparison:
    """Runs, their tables and their pictures."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.runs = [
            read(place, name, path) for place, (name, path) in enumerate(zip(names(paths), paths, strict=True))
        ]
        self.measured = [*quality(self.runs), *likelihood(self.runs), *others(self.runs)]
        self.tables = [about(self.runs), *self.measured, configs(self.runs)]
        self.pictures = pictures(self.runs)

    def write(self, folder: Path) -> list[Path]:
        """The files, each replaced as a whole; those that a person opens first."""
        said = f"{len(self.runs)} runs: {', '.join(run.name for run in self.runs)}"
        beside: dict[str, Picture] = {}
        for picture in self.pictures:
            count = sum(other.place == picture.place for other in beside.values())
            beside[f"{COMPARISON}-{picture.place}-{count + 1}.png"] = picture
        for old in folder.glob(f"{COMPARISON}-*.png"):
            old.unlink()  # of an earlier comparison, that would be taken for one of this
        for name, picture in beside.items():
            write_atomically(folder / name, picture.data)
        html = page(TITLE, self.runs, self.tables, self.pictures, said)
        files = [write_atomically(folder / f"{COMPARISON}.html", html.encode())]
        text = markdown(TITLE, self.runs, self.tables, beside, said)
        files.append(write_atomically(folder / f"{COMPARISON}.md", text.encode()))
        content = {"runs": [{"name": run.name, "path": str(run.path)} for run in self.runs], "numbers": self.rows()}
        told = json.dumps(plain(content), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        files.append(write_atomically(folder / f"{COMPARISON}.json", told.encode()))
        return [*files, *(folder / name for name in beside)]

    def rows(self) -> list[dict[str, Any]]:
        """Every number of the tables, with what is said of it and how it was measured."""
        found = []
        for table in self.measured:
            for block in table.blocks:
                for row in block.rows:
                    for cell in (x for x in row.cells if isinstance(x, Cell)):
                        entry, verdict = cell.entry, cell.verdict
                        found.append(
                            {
                                "table": table.title,
                                "block": block.title,
                                "run": self.runs[entry.run].name,
                                "name": entry.quantity,
                                "weights": entry.label,
                                "value": entry.value,
                                "error": entry.error,
                                "kind": entry.kind,
                                "unit": entry.unit,
                                "rank": verdict.mark,
                                "class": verdict.group,
                                "not_ranked": verdict.why,
                                "protocol": entry.protocol,
                            }
                        )
        return found

    def log(self, loggers: Sequence[Any]) -> None:
        """The numbers as a table of W&B, the Markdown as a text of TensorBoard."""
        columns = ["table", "block", "run", "name", "weights", "value", "error", "kind", "unit", "rank", "class"]
        columns += ["not_ranked"]
        data = [[row[column] for column in columns] for row in self.rows()]
        said = ", ".join(run.name for run in self.runs)
        for logger in loggers:
            if hasattr(logger, "log_table"):
                logger.log_table(COMPARISON, columns, data)
            elif hasattr(logger.experiment, "add_text"):
                logger.experiment.add_text(COMPARISON, markdown(TITLE, self.runs, self.measured, {}, said))


def read(place: int, name: str, path: Path) -> Run:
    """A folder's config, where it has one, and its numbers."""
    folder = RunFolder(path)
    config = folder.config() if (path / "config.yaml").is_file() else {}
    metrics = read_metrics(folder.metrics)
    steps = sorted({entry["step"] for entry in metrics.values() if entry.get("step") is not None})
    steps = [] if config.get("samples") else steps  # whose nobody knows
    return Run(name, path, config, entries(place, metrics), steps)


def about(runs: Sequence[Run]) -> Table:
    """What each run is."""
    rows = []
    for place, run in enumerate(runs):
        samplers = [_sampler(value) for value in run.said("sampler")]
        evaluations = [f"{value:g}" if isinstance(value, float) else str(value) for value in run.said("evaluations")]
        weights = dict.fromkeys(entry.weights for entry in run.entries if entry.label not in (HELD_OUT, ""))
        data = (run.config.get("data") or {}).get("_target_", "").rpartition(".")[2] or "—"
        said = run.said("guidance")
        guided = [f"guidance {value:g}" for value in said if isinstance(value, int | float)]
        cells = [run.family, data, "/".join(weights), ", ".join(f"{step:,}" for step in run.steps) or "—"]
        cells += ["; ".join([*samplers, *guided]) or "—", ", ".join(evaluations) or "—"]
        cells += ["—" if run.config.get("samples") else str(run.config.get("seed", "—")), str(run.path)]
        rows.append(Row(place, "", cells))
    columns = ["family", "data", "weights", "step", "sampler", "evaluations", "seed", "folder"]
    return Table("Runs", "", columns, [Block("", rows)])


def _sampler(value: Any) -> str:
    """A sampler as its name and its most telling options."""
    if not isinstance(value, dict):
        return str(value)
    told = [f"{key} {value_of(value[key])}" for key in ("steps", "eta", "rtol") if value.get(key) is not None]
    return " ".join([str(value.get("name", "?")), f"({', '.join(told)})" * bool(told)]).strip()


def configs(runs: Sequence[Run]) -> Table:
    """The keys in which the configs differ; a row a key."""
    flat = [{k: v for k, v in leaves(run.config) if k.split(".")[0] in IDENTITY} for run in runs]
    rows = [
        Row(None, key, ["" if value == ABSENT else str(value) for value in values])
        for key, values in differences(flat).items()
    ]
    return Table("Differences of the configs", "", [run.name for run in runs], [Block("", rows)] if rows else [])

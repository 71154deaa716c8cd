"""What is trained for docs/results.md: tables, rows and seeds, as benchmarks/recipes/tables.yaml lists them."""

import functools
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("tables.yaml")
FOLDER = ROOT / "outputs" / "results"
STEPS = "trainer.max_steps="
PEER = "peer="


@dataclass(frozen=True, eq=False)
class Table:
    """One table of the page.

    Args:
        name: that of its JSON file
        title: its heading
        about: what is the same for all its rows, in one paragraph of Markdown
        minutes: of CPU, on one thread, that a row is expected to train
        seeds: each row is trained with each of them
        columns: heading -> the numbers of metrics.json, without their weights, of which a row has one
        rows: name -> the words of its command; peer=NAME and the words after it are those of the program
            benchmarks/peers/NAME.py, which trains on the same data and writes samples, for run.py to measure
        measure: words of the command that measures the samples of peers
        pictures: whether the page shows samples of each row, of the first seed
        of: TABLE/ROW whose export each row evaluates with its words, seed by seed; None: each row is trained
    """

    name: str
    title: str
    about: str
    minutes: float
    seeds: tuple[int, ...]
    columns: dict[str, tuple[str, ...]]
    rows: dict[str, tuple[str, ...]] = field(default_factory=dict)
    measure: tuple[str, ...] = ()
    pictures: bool = False
    of: str | None = None

    def cells(self) -> list["Cell"]:
        """Row by row within one seed, so that every row has a number early."""
        return [Cell(self, row, seed) for seed in self.seeds for row in self.rows]

    def column_of(self, subject: str) -> str | None:
        """The column that shows a number, by its name without the weights; None: no column does."""
        return next((column for column, names in self.columns.items() if subject in names), None)


@dataclass(frozen=True)
class Cell:
    """One training: a row of a table with one seed."""

    table: Table
    row: str
    seed: int

    @property
    def source(self) -> "Cell | None":
        """The training that it evaluates."""
        if self.table.of is None:
            return None
        name, _, row = self.table.of.partition("/")
        return Cell(tables()[name], row, self.seed)

    @property
    def peer(self) -> list[str]:
        """What follows `python` to write the samples of a peer, without their file, and is recorded; empty for ours."""
        first, *own = self.table.rows[self.row]
        if not first.startswith(PEER):
            return []
        return ["-m", f"benchmarks.peers.{first.removeprefix(PEER)}", *own, f"--seed={self.seed}"]

    @property
    def samples(self) -> Path:
        """The file of a peer's samples."""
        return self.folder / "samples.npz"

    @property
    def words(self) -> list[str]:
        """What follows run.py, without the folder: recorded beside the numbers, and typed by whoever repeats them."""
        own = list(self.table.rows[self.row])
        if self.peer:
            return ["stage=evaluate", *self.table.measure, f"seed={self.seed}", "logger=none"]
        if self.source is not None:
            return ["stage=evaluate", *own, "logger=none"]
        return [*own, *schedule(own), f"seed={self.seed}", "logger=none"]

    @property
    def slug(self) -> str:
        """The row's name in names of files."""
        return re.sub(r"[^a-z0-9]+", "-", self.row.lower()).strip("-")

    @property
    def folder(self) -> Path:
        """Where it is trained: a row whose words have changed is another one."""
        words = [*self.peer, *(self.source.words if self.source else ()), *self.words]
        digest = hashlib.sha256(" ".join(words).encode()).hexdigest()[:8]
        return FOLDER / self.table.name / f"{self.slug}-{self.seed}-{digest}"

    @property
    def run(self) -> Path:
        """The run folder in it."""
        return self.folder / "run"

    def __str__(self) -> str:
        return f"{self.table.name}/{self.row} seed={self.seed}"


@functools.cache
def recipe(experiment: str) -> dict[str, Any]:
    """An experiment's own file."""
    return yaml.safe_load((ROOT / f"experiments/experiment/{experiment}.yaml").read_text())


def value(words: list[str], key: str) -> str | None:
    """The value of the last word KEY=VALUE."""
    return next((word[len(key) :] for word in reversed(words) if word.startswith(key)), None)


def schedule(words: list[str]) -> list[str]:
    """Overrides that end the recipe's own schedules, where they have an end, at the last step of `words`."""
    steps, experiment = value(words, STEPS), value(words, "experiment=")
    if steps is None or experiment is None:
        return []
    module, last = recipe(experiment)["module"], recipe(experiment)["trainer"]["max_steps"]
    return [
        f"module.{name}.{key}={int(end) * int(steps) // last}"
        for name in ("scheduler", "critic_scheduler")
        for key, end in (module.get(name) or {}).items()
        if key in ("T_max", "total_iters") and end >= last
    ]


@functools.cache
def tables() -> dict[str, Table]:
    """All tables, in the order of the page."""
    listed = yaml.safe_load(LIST.read_text())
    return {
        name: Table(
            name,
            **entry
            | {
                "seeds": tuple(entry["seeds"]),
                "columns": {head: tuple(names) for head, names in entry["columns"].items()},
                "rows": {row: tuple(words.split()) for row, words in entry["rows"].items()},
                "measure": tuple(entry.get("measure", "").split()),
            },
        )
        for name, entry in listed.items()
    }

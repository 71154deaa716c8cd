"""docs/results/*.json, a file a table: what has been trained, with its numbers."""

import fcntl
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.recipes.tables import FOLDER, ROOT, Cell, Table
from benchmarks.table import cpu_model
from lightning_gen.results.result import name_of
from lightning_gen.results.store import METRICS, RECORD, read_record, write_atomically

STORED = ROOT / "docs" / "results"
PACKAGES = ("torch", "pytorch-lightning", "torchmetrics", "scikit-learn", "lightning-gen")
KEPT = ("value", "error", "kind", "unit", "protocol_hash")


def load(table: Table) -> dict[str, Any]:
    """What is stored of a table: protocols by their hash, rows by name, in them seeds."""
    path = STORED / f"{table.name}.json"
    return json.loads(path.read_text()) if path.exists() else {"protocols": {}, "rows": {}}


def entry(cell: Cell, stored: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """What is stored of a cell; None where it has not been trained, with other words, or evaluates another training."""
    stored = load(cell.table) if stored is None else stored
    found = stored["rows"].get(cell.row, {}).get(str(cell.seed))
    same = found is not None and found["words"] == cell.words and found.get("peer", []) == cell.peer
    if same and cell.source is not None:
        trained = entry(cell.source)
        same = trained is not None and trained["config"] == found["config"]
    return found if same else None


def missing(table: Table) -> list[Cell]:
    """The cells that are to be trained."""
    stored = load(table)
    return [cell for cell in table.cells() if entry(cell, stored) is None]


def expected_minutes(cell: Cell) -> float:
    """CPU minutes: those of the row's other seeds whose cost is known, else what its table expects."""
    stored = load(cell.table)
    others = [entry(Cell(cell.table, cell.row, seed), stored) for seed in cell.table.seeds]
    known = [other["cpu_minutes"] for other in others if other is not None and not other["unseen"]]
    return statistics.median(known) if known else cell.table.minutes


def measured(table: Table, run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The numbers of a run that the table shows, by name, and their protocols by hash."""
    numbers, protocols = {}, {}
    for key, stored in json.loads((run / METRICS).read_text()).items():
        name = name_of(key, stored)
        if name.label in ("ema", "raw", "samples") and table.column_of(name.subject) is not None:
            numbers[key] = {part: stored[part] for part in KEPT}
            protocols[stored["protocol_hash"]] = stored["protocol"]
    return numbers, protocols


def training_seconds(run: Path, steps: int) -> float:
    """By the clock, validation left out, from the rates that the run has recorded.

    What is left of the `steps` after the last record goes by its rate. A step of a family of two players takes a batch
    for each of the critic's.
    """
    config = yaml.safe_load((run / "config.yaml").read_text())
    images = config["data"]["batch_size"] * config["module"].get("critic_steps", 1)
    rates = [line for line in read_record(run / RECORD) if line["name"] == "speed/images_per_s"]
    if not rates:
        raise ValueError(f"{run / RECORD} has no speed/images_per_s, expected one of each fifty steps: train longer")
    ends = [0, *(line["step"] for line in rates)]
    ends[-1] = max(steps, ends[-1])
    each = [end - start for start, end in itertools.pairwise(ends)]
    return sum(images * n / line["value"] for n, line in zip(each, rates, strict=True))


def git(*words: str) -> str:
    """What git prints of this repository."""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def commit() -> str:
    """The first digits of the present code's commit, with + where what computes has changed since."""
    changed = git("status", "--porcelain", "--", "lightning_gen", "callbacks", "experiments", "run.py")
    return git("rev-parse", "--short=8", "HEAD") + "+" * bool(changed)


def machine() -> str:
    """Model and number of cores."""
    return f"{cpu_model()}, {os.cpu_count()} cores"


def version_of_all() -> dict[str, str]:
    """Python's and those of what computes."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


@contextmanager
def changing(table: Table) -> Iterator[dict[str, Any]]:
    """What is stored of a table, to be changed by one process at a time and written at the end."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stored = load(table)
        yield stored
        every = [e for row in stored["rows"].values() for e in row.values()]
        used = {x["protocol_hash"] for e in every for x in e["numbers"].values()}
        stored["protocols"] = {digest: stored["protocols"][digest] for digest in sorted(used)}
        STORED.mkdir(exist_ok=True)
        write_atomically(STORED / f"{table.name}.json", (json.dumps(stored, indent=1) + "\n").encode())


def trained_by_us(cell: Cell, seconds: float, clock: float, unseen: int) -> dict[str, Any]:
    """Config, steps and minutes of a training: its share of the time by the clock, of the CPU time; null if unknown."""
    run = (cell.source or cell).run
    state = json.loads((run / "run.json").read_text())
    known = cell.source is None and not unseen
    return {
        "config": state["config"][:16],
        "steps": state["step"],
        "minutes": round(seconds * training_seconds(run, state["step"]) / clock / 60, 4) if known else None,
        "versions": version_of_all(),
    }


def trained_by_peer(cell: Cell) -> dict[str, Any]:
    """The same of a peer's, as its program has counted them; in the place of the config, the program's SHA-256."""
    with np.load(cell.samples) as stored:
        package = str(stored["package"])
        return {
            "peer": cell.peer,
            "config": str(stored["program"])[:16],
            "steps": int(stored["steps"]),
            "minutes": round(float(stored["seconds"]) / 60, 4),
            "versions": version_of_all() | ({package: version(package)} if package else {}),
        }


def picture(cell: Cell) -> Path:
    """The picture of a row's samples, which the page shows."""
    return STORED / f"{cell.table.name}-{cell.slug}.png"


def keep_picture(cell: Cell) -> None:
    """Keep the last grid of samples that the run has drawn; ValueError where there is none."""
    grids = sorted((cell.run / "samples").glob("grid-*.png"))
    if not grids:
        raise ValueError(f"{cell}: {cell.run / 'samples'} has no grid of samples, which its table shows")
    STORED.mkdir(exist_ok=True)
    shutil.copy(grids[-1], picture(cell))


def classifiers(protocols: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """(features, data) -> SHA-256 of the weights of what gives them; ValueError where there are two.

    A classifier of the data is trained on the machine, and rounded as its processor does.
    """
    found: dict[tuple[str, str], str] = {}
    for protocol in protocols:
        if "features_sha256" in protocol:
            key, new = (protocol["features"], protocol["reference_fingerprint"]), protocol["features_sha256"]
            if found.setdefault(key, new) != new:
                raise ValueError(
                    f"its features are of weights {new[:8]}, those of the other rows of {found[key][:8]} ({key[0]}), "
                    "and cannot be compared: measure all on one kind of processor"
                )
    return found


def add(cell: Cell, seconds: float, clock: float, unseen: int) -> None:
    """Store a cell that has been trained, measured and exported.

    Args:
        cell: the cell.
        seconds: of CPU of its commands.
        clock: seconds that they took.
        unseen: how many of them have ended without being seen, whose time is in neither.
    """
    numbers, protocols = measured(cell.table, cell.run)
    if not numbers:
        raise ValueError(f"{cell}: {cell.run / METRICS} has none of the numbers that its table shows")
    classifiers([*load(cell.table)["protocols"].values(), *protocols.values()])
    if cell.table.pictures and cell.seed == cell.table.seeds[0]:
        keep_picture(cell)
    with changing(cell.table) as stored:
        stored["protocols"] |= protocols
        stored["rows"].setdefault(cell.row, {})[str(cell.seed)] = {
            "words": cell.words,
            **(trained_by_peer(cell) if cell.peer else trained_by_us(cell, seconds, clock, unseen)),
            "cpu_minutes": round(seconds / 60, 4),
            "unseen": unseen,
            "machine": machine(),
            "commit": commit(),
            "numbers": numbers,
        }

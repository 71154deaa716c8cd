"""What was stored, measured again: make results-check."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.recipes.record import entry, measured
from benchmarks.recipes.tables import Cell
from benchmarks.recipes.train import Commands, measuring

SHORT = 5.0  # CPU minutes up to which a row without an export is trained again
SIGMAS = 3.0


def differences(before: dict[str, Any], now: dict[str, Any], sigmas: float) -> Iterator[str]:
    """A sentence for each number that has moved by more than `sigmas` of its errors, or is gone."""
    for name, old in before.items():
        new = now.get(name)
        if new is None:
            yield f"{name} is not measured any more"
        elif new["kind"] != old["kind"]:
            yield f"{name} is of the kind {new['kind']}, stored {old['kind']}"
        elif not abs(new["value"] - old["value"]) <= sigmas * error_of_both(old["error"], new["error"]):
            error = "" if old["error"] is None else f" ± {old['error']:.2g}"
            yield f"{name}: {new['value']:.6g}, stored {old['value']:.6g}{error}"


def error_of_both(*errors: float | None) -> float:
    """The standard error of a difference, where some of both numbers have none."""
    return sum((error or 0.0) ** 2 for error in errors) ** 0.5


def check(cell: Cell, commands: Commands) -> str:
    """Measure a cell again; `agrees`, `not checked`, or what differs."""
    stored = entry(cell)
    if stored is None:
        return "not trained"
    export = (cell.source or cell).run / "export"
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        if cell.peer and cell.samples.exists():
            words, sigmas, how = measuring(cell, run), 1.0, "again from the samples"
        elif export.is_dir():
            shutil.copytree(export, run)
            words = measuring(cell, run) if cell.source else ["run.py", "stage=evaluate", "logger=none", f"run={run}"]
            sigmas, how = 1.0, "again from the export"
        elif cell.source is None and not cell.peer and stored["cpu_minutes"] < SHORT:
            words, sigmas, how = measuring(cell, run), SIGMAS, "trained again"
        else:
            return "not checked: no export and no samples, and a training that is not short"
        if code := commands(words, Path(folder)):
            return f"exit code {code}: {(Path(folder) / 'log.txt').read_text().strip().rpartition(chr(10))[2]}"
        found = list(differences(stored["numbers"], measured(cell.table, run)[0], sigmas))
    return f"{how}: " + ("; ".join(found) or "agrees")


def check_all(cells: list[Cell]) -> int:
    """Check them, a line each; 1 if one has moved."""
    commands, moved = Commands(), False
    with tqdm(cells, unit="training") as bar:
        for cell in bar:
            word = check(cell, commands)
            moved |= not word.endswith("agrees") and not word.startswith("not ")
            bar.write(f"{cell}: {word}")
    return int(moved)

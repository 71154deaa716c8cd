"""Steps that take equal time: python -m benchmarks.recipes.steps TABLE [--minutes 5]; they go into tables.yaml.

Two short trainings of each row, without validation and measuring, differ by steps alone: their CPU seconds on one
thread say what a step takes. The longer one grows until they differ by more than a start's seconds do.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.recipes.tables import STEPS, Cell, recipe, tables, value
from benchmarks.recipes.train import Commands, Cost

PEER_STEPS = "--steps="
FEW, MANY = 30, 130
APART = 15.0  # seconds at least between the two trainings
MEASURED = ("quality", "callbacks.likelihood.")  # which a bare training leaves out
BARE = ("quality=none", "callbacks.likelihood=null", "callbacks.pictures=null", "callbacks.checkpoints=null")


def seconds(cell: Cell, steps: int, commands: Commands) -> float:
    """CPU seconds of a training of so many steps; a peer's draws one sample, too."""
    with tempfile.TemporaryDirectory() as folder:
        own = [word for word in cell.words if not word.startswith(MEASURED)]
        words = ["run.py", *own, *BARE, f"{STEPS}{steps}", "trainer.limit_val_batches=0", f"run={folder}/run"]
        if cell.peer:
            words = [*cell.peer, f"{PEER_STEPS}{steps}", "--n=1", f"--file={folder}/samples.npz"]
        if code := commands(words, Path(folder)):
            raise RuntimeError(f"{cell}: exit code {code}:\n{(Path(folder) / 'log.txt').read_text()}")
        return Cost(Path(folder)).seconds


def main() -> None:
    """Print a line for each row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", choices=[name for name, table in tables().items() if table.of is None])
    parser.add_argument("--rows", nargs="+")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training (%(default)s)")
    options = parser.parse_args()
    table, commands = tables()[options.table], Commands()
    if unknown := sorted({*(options.rows or ())} - {*table.rows}):
        parser.error(f"--rows {unknown[0]}: no such row; rows are {', '.join(table.rows)}")
    for row, words in table.rows.items():
        if options.rows and row not in options.rows:
            continue
        least, many, apart = seconds(Cell(table, row, 0), FEW, commands), MANY, 0.0
        while apart < APART:
            apart = seconds(Cell(table, row, 0), many, commands) - least
            each, many = apart / (many - FEW), 4 * many
        steps, experiment = int(60 * options.minutes / each), value(list(words), "experiment=")
        if experiment is None:
            print(f"{row}: {1000 * each:.1f} ms a step, {PEER_STEPS}{steps}", flush=True)
            continue
        whole = recipe(experiment)["trainer"]["max_steps"]
        print(f"{row}: {1000 * each:.1f} ms a step, {STEPS}{steps}; the recipe has {whole}", flush=True)


if __name__ == "__main__":
    main()

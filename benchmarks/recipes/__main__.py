"""python -m benchmarks.recipes [--only TABLE[/ROW] ...] [--hours H] [--left | --check | --page]: make results."""

import argparse
import re
import sys

from benchmarks.recipes import check, page, record, train, which
from benchmarks.recipes.tables import Cell, tables

JOBS = 2
ALONE = {"page": ("only", "hours", "jobs"), "left": ("hours", "jobs"), "check": ("hours", "jobs")}  # takes none of


def count(text: str) -> int:
    """A whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}, expected a whole number of 1 or more")
    return int(text)


def duration(text: str) -> float:
    """A number of hours, 0 or more."""
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text):
        raise argparse.ArgumentTypeError(f"{text}, expected a number of hours, as 2 or 0.5")
    return float(text)


def main() -> int:
    """Train what is missing, say what is left, or check what there is."""
    listed = tables()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="TABLE[/ROW]", help=f"of {', '.join(listed)}")
    parser.add_argument("--hours", type=duration, help="stop after so many hours, saved")
    parser.add_argument("--jobs", type=count, help=f"trainings at a time, each on one thread ({JOBS})")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--left", action="store_true", help="say how many CPU hours are left, and end")
    what.add_argument("--check", action="store_true", help="measure the exports again, and compare")
    what.add_argument("--page", action="store_true", help="write the pages from what is stored, and end")
    options = parser.parse_args()
    for one, others in ALONE.items():
        for other in others if getattr(options, one) else ():
            if getattr(options, other) is not None:
                parser.error(f"--{one} takes no --{other}: leave it out")
    names = [*listed, *(f"{table.name}/{row}" for table in listed.values() for row in table.rows)]
    for name in options.only or ():
        if name not in names:
            parser.error(f"--only {name}: no such table or row; tables are {', '.join(listed)}")

    def chosen(cell: Cell) -> bool:
        return not options.only or not {cell.table.name, f"{cell.table.name}/{cell.row}"}.isdisjoint(options.only)

    if options.check:
        return check.check_all([cell for table in listed.values() for cell in table.cells() if chosen(cell)])
    cells = [cell for table in listed.values() for cell in record.missing(table) if chosen(cell)]
    if options.left:
        for name, table in listed.items():
            every = [cell for cell in table.cells() if chosen(cell)]
            mine = [cell for cell in cells if cell.table is table]
            if every:
                print(f"{name}: {len(mine)} of {len(every)} trainings, {train.hours_left(mine):.1f} CPU hours")
        return 0
    page.write()
    which.write()
    if options.page:
        return 0
    jobs = options.jobs or JOBS
    print(f"{len(cells)} trainings, {train.hours_left(cells):.1f} CPU hours left, {jobs} at a time", flush=True)
    return train.train_all(cells, jobs, options.hours)


if __name__ == "__main__":
    sys.exit(main())

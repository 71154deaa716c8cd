"""The speed suite: python benchmarks/suite.py [--quick] [--only PART ...], or make bench, make bench-quick.

One table of what this repository takes, what the best peer takes, and what nobody can do without, with the goals that
are held and those that are missed. The whole one is stored under benchmarks/results; --quick compares with it.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

sys.path[0] = str(Path(__file__).resolve().parents[1])
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler tells of every start, before torch is imported

from benchmarks import table  # noqa: E402
from benchmarks.parts import NAMES, part  # noqa: E402
from benchmarks.table import Row  # noqa: E402
from benchmarks.timing import Run, one_thread  # noqa: E402
from lightning_gen.stages.quiet import quieten  # noqa: E402

QUICK = Run(seconds=0.3, least=3)


def rows(module: ModuleType, run: Run, quick: bool = False) -> Iterator[Row]:
    """The rows of a part; a peer that is not installed is named in the row that needs it."""
    for case in module.CASES if quick else (*module.CASES, *module.LONG):
        try:
            yield from case(run)
        except ModuleNotFoundError as error:
            if error.name not in table.PEERS:
                raise
            name = (case.__doc__ or case.__name__).partition(".")[0]
            yield Row(name, reason=f"{table.PEERS[error.name]} is missing: pip install -e '.[bench]'")


def main() -> None:
    """Measure, print, and store or compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="short rows, few rounds; compares with the stored results")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="PART", help=f"of {', '.join(NAMES)}")
    options = parser.parse_args()
    quieten()
    run, of = QUICK if options.quick else Run(), table.machine()
    before, told = table.stored(of), []
    print(table.header(), flush=True)
    for name in options.only or NAMES:
        start, load, found = time.perf_counter(), os.getloadavg()[0], []
        with one_thread():
            for row in rows(part(name), run, options.quick):
                found.append(row)
                print(table.line(row.cells()), flush=True)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        if options.quick:
            told += table.changes(before.get(name, ()), found)
        else:
            table.write(of, name, load, found)
    if options.quick:
        print("\nagainst the stored results of this machine:", *told or ["no figure left its spread"], sep="\n")


if __name__ == "__main__":
    main()

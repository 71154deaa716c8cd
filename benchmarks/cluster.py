"""A training on 1 to 512 GPUs, on paper: python benchmarks/cluster.py [--measure].

Simulates a step from its parts, and writes the tables and the picture of docs/scaling.md. The parts are in
benchmarks/cluster.json: operations and bytes, counted, and times of one and two ranks on a CPU, by which the
simulation's error is known. --measure counts and measures them anew, in minutes on an idle machine.
"""

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks.cluster_simulation import efficiency  # noqa: E402
from benchmarks.cluster_tables import H200, RANKS, TABLES, Parts, networks, size  # noqa: E402

PARTS, PAGE, PICTURE = ROOT / "benchmarks/cluster.json", ROOT / "docs/scaling.md", ROOT / "docs/scaling.png"


def written(page: str, parts: Parts) -> str:
    """The page with its tables, each between <!-- table: NAME --> and <!-- end -->."""

    def block(found: re.Match[str]) -> str:
        return f"{found[1]}\n{TABLES[found[2]](parts)}\n{found[3]}"

    return re.sub(r"(<!-- table: ([\w-]+) -->)\n.*?(<!-- end -->)", block, page, flags=re.DOTALL)


def picture(parts: Parts, path: Path = PICTURE) -> None:
    """Efficiency by the images of a rank."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    found, counts = networks(parts), [2**k for k in range(10)]
    for network, style in ((found[0], "-"), (found[2], "--")):
        for color, n in enumerate(RANKS[1:]):
            values = [100 * efficiency(network, batch, n, H200) for batch in counts]
            axes.plot(counts, values, style, color=f"C{color}", label=f"{size(network.parameters)}, {n} GPUs")
    axes.axhline(90, color="0.7", linewidth=0.8)
    axes.set(xscale="log", xlabel="images of a GPU", ylabel="efficiency, %", ylim=(0, 102), xticks=counts)
    axes.set_xticklabels([str(count) for count in counts])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measure if asked, and write the page's tables and its picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--measure", action="store_true", help="count and measure the parts anew, and store them")
    if parser.parse_args().measure:
        from benchmarks.cluster_parts import counted, measured
        from benchmarks.timing import Run

        PARTS.write_text(json.dumps({"counted": counted(), "measured": measured(Run(seconds=2))}) + "\n")
    parts = json.loads(PARTS.read_text())
    PAGE.write_text(written(PAGE.read_text(), parts))
    picture(parts)
    for name, made in TABLES.items():
        print(f"\n{name}\n\n{made(parts)}")


if __name__ == "__main__":
    main()

"""The rows of the suite, their goals, and the one table: as Markdown, as JSON, and beside the stored one."""

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

RESULTS = Path(__file__).resolve().parent / "results"
# import name -> package, of the extra `bench` and what it is compared by
PEERS = {
    "azula": "azula",
    "denoising_diffusion_pytorch": "denoising-diffusion-pytorch",
    "diffusers": "diffusers",
    "pytorch_lightning": "pytorch-lightning",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torch": "torch",
    "torch_fidelity": "torch-fidelity",
    "torchebm": "torchebm",
    "torchmetrics": "torchmetrics",
    "zuko": "zuko",
}
HEAD = ["what", "ours", "best peer", "ours / peer", "limit", "ours / limit", "goal", ""]

Spread = tuple[float, float, float]  # of the medians, the smallest and the largest of the rounds


@dataclass(frozen=True)
class Goal:
    """What a figure of a row shall be.

    Args:
        figure: ours, its ratio to the best peer, or its ratio to the limit.
        sense: whether the bound is the most or the least.
        bound: the number.
    """

    figure: Literal["ours", "peer", "limit"]
    sense: Literal["at most", "at least"]
    bound: float

    def __str__(self) -> str:
        name = {"ours": "ours", "peer": "ours / peer", "limit": "ours / limit"}[self.figure]
        return f"{name} {'≤' if self.sense == 'at most' else '≥'} {number(self.bound)}"

    def held(self, value: float) -> bool:
        """Whether a value is within it."""
        return value <= self.bound if self.sense == "at most" else value >= self.bound


def at_most(bound: float, figure: Literal["ours", "peer", "limit"] = "peer") -> Goal:
    """An upper bound."""
    return Goal(figure, "at most", bound)


def at_least(bound: float, figure: Literal["ours", "peer", "limit"] = "peer") -> Goal:
    """A lower bound."""
    return Goal(figure, "at least", bound)


@dataclass(frozen=True)
class Row:
    """One line.

    Args:
        what: is measured.
        unit: of ours, theirs and limit_value.
        ours, theirs, limit_value: medians, or exact counts.
        peer: name of the best peer.
        ratio: ours / theirs.
        limit: what no implementation can do without.
        limit_ratio: ours / limit_value.
        goal: of one of them.
        reason: why the goal is missed, or why there is no figure.
        rounds: number of them; 0 for exact counts.
        own: ours with its smallest and largest of a round, where there is nothing to compare with.
    """

    what: str
    unit: str = ""
    ours: float | None = None
    peer: str | None = None
    theirs: float | None = None
    ratio: Spread | None = None
    limit: str | None = None
    limit_value: float | None = None
    limit_ratio: Spread | None = None
    goal: Goal | None = None
    reason: str = ""
    rounds: int = 0
    own: Spread | None = None

    def because(self, reason: str) -> "Row":
        """The row with its reason."""
        return replace(self, reason=reason)

    def judged(self) -> float | None:
        """The figure that the goal is of."""
        if self.goal is None or self.goal.figure == "ours":
            return self.ours
        spread = self.ratio if self.goal.figure == "peer" else self.limit_ratio
        return spread and spread[0]

    def held(self) -> bool | None:
        """Whether the goal is; None without a goal or a figure."""
        value = self.judged()
        return None if self.goal is None or value is None else self.goal.held(value)

    def verdict(self) -> str:
        """held, missed with the reason, or not measured with the reason."""
        if self.ours is None:
            return f"not measured: {self.reason}"
        word = {None: "", True: "held", False: "missed"}[self.held()]
        return f"**missed**: {self.reason}" if word == "missed" else word

    def cells(self) -> list[str]:
        """The line's cells, in the order of HEAD."""
        peer = "" if self.peer is None else f"{self.peer} {number(self.theirs)}"
        limit = "" if self.limit is None else f"{self.limit} {number(self.limit_value)}"
        ours = "" if self.ours is None else f"{number(self.ours)} {span(self.own)}{self.unit}".rstrip()
        goal = "" if self.goal is None else str(self.goal)
        return [self.what, ours, peer, spread(self.ratio), limit, spread(self.limit_ratio), goal, self.verdict()]

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Row":
        """From what `asdict` made of it."""
        pairs = {key: stored[key] and tuple(stored[key]) for key in ("ratio", "limit_ratio", "own")}
        return cls(**{**stored, **pairs, "goal": stored["goal"] and Goal(**stored["goal"])})


def counted(
    what: str,
    ours: float,
    unit: str = "",
    peers: Mapping[str, float] | None = None,
    limit: tuple[str, float] | None = None,
    goal: Goal | None = None,
    reason: str = "",
    rounds: int = 0,
) -> Row:
    """A row of exact counts, or with rounds = 1 of a single measurement; the best peer is that of the smallest."""
    peer = min(peers, key=peers.__getitem__) if peers else None
    theirs = peers[peer] if peers and peer else None

    def ratio(value: float | None) -> Spread | None:
        return (ours / value,) * 3 if value else None

    value = limit and limit[1]
    return Row(
        what, unit, ours, peer, theirs, ratio(theirs), limit and limit[0], value, ratio(value), goal, reason, rounds
    )


def number(value: float | None) -> str:
    """Three digits, thousands with commas, powers of ten where it is very small or large."""
    if value is None:
        return ""
    if value == int(value) and abs(value) < 1e7 or 1000 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread(value: Spread | None) -> str:
    """A ratio with its rounds; alone where there is one."""
    if value is None:
        return ""
    middle, low, high = value
    return f"{middle:.2f}" if low == high else f"{middle:.2f} ({low:.2f} to {high:.2f})"


def span(value: Spread | None) -> str:
    """The smallest and largest of a round, in brackets."""
    return "" if value is None else f"({number(value[1])} to {number(value[2])}) "


def line(cells: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def header() -> str:
    """The table's first two lines."""
    return f"{line(HEAD)}\n{'|---' * len(HEAD)}|"


def machine() -> dict[str, Any]:
    """CPU model, its cores, and versions: nothing that names a host or a folder."""
    versions = {}
    for package in sorted(PEERS.values()):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {"cpu": cpu_model(), "cores": os.cpu_count(), "python": platform.python_version(), "versions": versions}


def cpu_model() -> str:
    """As the system names it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    named = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def results_file(of: Mapping[str, Any]) -> Path:
    """Where the results of a machine are stored, .json."""
    letters = "".join(c if c.isalnum() else "-" for c in f"{of['cpu']}-{of['cores']}-cores".lower())
    return RESULTS / f"{'-'.join(filter(None, letters.split('-')))}.json"


def stored(of: Mapping[str, Any]) -> dict[str, list[Row]]:
    """Part -> its rows, of this machine; empty where nothing is stored."""
    path = results_file(of)
    parts = json.loads(path.read_text())["parts"] if path.is_file() else {}
    return {name: [Row.of(row) for row in part["rows"]] for name, part in parts.items()}


def write(of: Mapping[str, Any], name: str, load: float, rows: Iterable[Row]) -> Path:
    """Write the rows of a part, with the load at its start, into the machine's two files: the other parts stay as they
    were, unless versions changed; the Markdown file."""
    path = results_file(of)
    old = json.loads(path.read_text()) if path.is_file() else {"machine": of, "parts": {}}
    parts = old["parts"] if old["machine"] == of else {}
    parts[name] = {"load": load, "rows": [asdict(row) for row in rows]}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": of, "parts": parts}, indent=1, ensure_ascii=False) + "\n")
    path.with_suffix(".md").write_text(page(of, parts))
    return path.with_suffix(".md")


def page(of: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """The table as a page."""
    versions = ", ".join(f"{name} {value}" for name, value in of["versions"].items())
    text = f"# {of['cpu']}, {of['cores']} cores\n\nPython {of['python']}, {versions}.\n\n"
    text += "How it is measured: [README.md](../README.md). Load is the number of busy processes when a part began.\n"
    for name, part in parts.items():
        text += f"\n## {name} (load {part['load']:.1f})\n\n{header()}\n"
        text += "".join(line(Row.of(row).cells()) + "\n" for row in part["rows"])
    return text


def changes(before: Iterable[Row], now: Iterable[Row]) -> list[str]:
    """The figures that left the range of the stored rounds by more than their own range, and those not stored."""
    old, told = {row.what: row for row in before}, []
    for row in now:
        other = old.get(row.what)
        if other is None:
            told.append(f"{row.what}: not in the stored results")
            continue
        figures = {"ratio": f"ours / {row.peer}", "limit_ratio": f"ours / {row.limit}", "own": "ours"}
        for name, figure in figures.items():
            a, b = getattr(other, name), getattr(row, name)
            if row.rounds and a and b and (b[1] > a[2] or b[2] < a[1]):
                told.append(f"{row.what}: {figure} {spread(b)}, stored {spread(a)}")
        if not row.rounds and row.ours != other.ours:
            told.append(f"{row.what}: {number(row.ours)}, stored {number(other.ours)}")
    return told

"""A run that is compared: its folder, its config and its numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_gen.results.ranking import Entry, entries
from lightning_gen.runs.folder import RunFolder
from lightning_gen.runs.metrics_file import read_metrics


@dataclass
class Run:
    """A folder that takes part: how it is called here, where it is, its config and its numbers."""

    name: str
    path: Path
    config: dict[str, Any]
    entries: list[Entry]
    steps: list[int] = field(default_factory=list)

    @property
    def family(self) -> str:
        """The class of its module; a dash where the samples are somebody else's."""
        theirs = self.config.get("samples") or not self.config.get("module")
        return "—" if theirs else self.config["module"]["_target_"].rpartition(".")[2]

    @property
    def dimension(self) -> int | None:
        """How many values a sample has, where the config says."""
        shape = (self.config.get("module") or {}).get("shape")
        return math.prod(shape) if shape else None

    def protocol_values(self, key: str) -> list[Any]:
        """What the protocols of its own numbers say of a key, each value once."""
        own = [entry for entry in self.entries if not entry.real]
        own = [entry for entry in own if "features" in entry.protocol] or own  # a likelihood has evaluations of its own
        values = [entry.protocol[key] for entry in own if key in entry.protocol]
        return [value for i, value in enumerate(values) if value not in values[:i]]


def read(index: int, name: str, path: Path) -> Run:
    """A folder's config, where it has one, and its numbers."""
    folder = RunFolder(path)
    config = folder.config() if (path / "config.yaml").is_file() else {}
    metrics = read_metrics(folder.metrics)
    steps = sorted({entry["step"] for entry in metrics.values() if entry.get("step") is not None})
    steps = [] if config.get("samples") else steps  # whose nobody knows
    return Run(name, path, config, entries(index, metrics), steps)


def names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many of the last parts as tell them apart."""
    whole = [path.resolve().parts for path in paths]
    length = 1
    while len({parts[-length:] for parts in whole}) < len(whole):
        length += 1
    return ["/".join(parts[-length:]) for parts in whole]


def words_of(key: str) -> str:
    """A key of a protocol in words."""
    return {"n": "N", "of": "what is estimated"}.get(key, key.replace("_", " "))


def value_of(value: Any) -> str:
    """A value of a protocol, short."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {value_of(item)}" for key, item in value.items())
    if isinstance(value, str) and len(value) > 40 and all(c in "0123456789abcdef" for c in value):
        return value[:12] + "…"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

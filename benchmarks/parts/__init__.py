"""The parts of the suite, each a module with CASES, and LONG, which --quick leaves out: functions that yield rows."""

from importlib import import_module
from types import ModuleType

NAMES = ("network", "loop", "sampling", "energies", "likelihood", "metrics")
NAMES += ("data", "start", "threads", "ranks", "memory", "scaling")


def part(name: str) -> ModuleType:
    """The module of a part."""
    return import_module(f"benchmarks.parts.{name}")

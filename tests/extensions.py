"""Packages that a test puts on the path, and forgets again."""

import sys
from contextlib import contextmanager
from pathlib import Path

from lightning_gen.config import allow, source
from lightning_gen.metrics import registry

EXTENSION = Path(__file__).resolve().parents[1] / "docs/tutorial"
CONFIGS = EXTENSION / "configs"


def forget(*packages):
    """What has been imported or read of the packages."""
    unimport(*packages)
    for cached in (source.source, source.signature, allow._installed):
        cached.cache_clear()


def unimport(*packages):
    """Their modules, and the metrics that they registered."""
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[name]
    for name, metric in list(registry.METRICS.items()):
        if metric.function.__module__.split(".")[0] in packages:
            del registry.METRICS[name]
            for part in metric.gives:
                registry.QUANTITIES.pop(part, None)


@contextmanager
def on_path(folder, *packages):
    """Packages of a folder can be imported within it, and nowhere else."""
    sys.path.insert(0, str(folder))
    forget(*packages)
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        forget(*packages)

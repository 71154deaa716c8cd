"""Packages that a test puts on the path, and forgets again."""

import sys
from contextlib import contextmanager
from pathlib import Path

from lightning_gen.config import allow, source

EXTENSION = Path(__file__).resolve().parents[1] / "docs/tutorial"
CONFIGS = EXTENSION / "configs"


def forget(*packages):
    """What has been read or imported of the packages."""
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[name]
    for cached in (source.source, source.signature, allow._installed):
        cached.cache_clear()


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

"""The user's cache folder."""

import os
from pathlib import Path


def cache_folder(folder: str | Path | None = None) -> Path:
    """`folder`, else $XDG_CACHE_HOME/lightning_gen, else ~/.cache/lightning_gen."""
    if folder is not None:
        return Path(folder).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lightning_gen"

"""The logger that a config names."""

from typing import Any

from lightning_gen.config.allow import OURS
from lightning_gen.config.instantiate import build
from lightning_gen.runs.folder import RunFolder


def build_loggers(config: dict[str, Any], folder: RunFolder) -> list[Any]:
    """The configured logger, in a list; none where there is none. Ours write into the run folder."""
    logger = config.get("logger")
    if not logger:
        return []
    ours = logger["_target_"].startswith(f"{OURS}.callbacks.")
    return [build(logger, "logger", **({"folder": str(folder.path)} if ours else {}))]

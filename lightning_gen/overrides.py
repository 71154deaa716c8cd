"""What the overrides of a command line mean for an experiment's sampler, and for a run folder's name."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def replaced(configs: Path, experiment: str, sampler: str) -> list[str]:
    """Overrides that leave nothing of the experiment's own options for its sampler, when another one is named."""
    import yaml

    def options(name: str) -> dict[str, Any]:
        file = configs / "experiment" / f"{name}.yaml"
        page = yaml.safe_load(file.read_text()) if file.is_file() else {}
        bases = [base for base in page.get("defaults", []) if isinstance(base, str) and base != "_self_"]
        return {key: None for base in bases for key in options(base)} | (page.get("sampler") or {})

    file = configs / "sampler" / f"{sampler}.yaml"
    own = yaml.safe_load(file.read_text()) if file.is_file() else {}
    kept = {key: json.dumps(value) for key, value in own.items()}
    return [f"sampler.{key}={kept[key]}" if key in own else f"~sampler.{key}" for key in options(experiment)]


def swept(overrides: Sequence[str]) -> list[str]:
    """The job's overrides as parts of a folder's name, without the experiment, which names it already."""
    parts = [word.lstrip("+") for word in overrides]
    return [part.replace("/", "_") for part in parts if not part.startswith(("experiment=", "stage=", "run="))]

"""metrics.json, the numbers of the last evaluation."""

import json
from pathlib import Path
from typing import Any


def read_metrics(path: str | Path) -> dict[str, dict[str, Any]]:
    """metrics.json: name -> value, error, kind, unit, protocol, step; inf and nan are floats again."""
    try:
        metrics = json.loads(Path(path).read_text())
        for entry in metrics.values():
            entry["value"] = float(entry["value"])
            entry["error"] = None if entry["error"] is None else float(entry["error"])
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); delete it and evaluate again") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not hold numbers as an evaluation writes them; evaluate again") from error
    return metrics

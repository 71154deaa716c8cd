"""The number that a job returns to a sweep: `optimize`."""

from typing import Any

from lightning_gen.options import choose
from lightning_gen.runs.folder import RunFolder
from lightning_gen.runs.metrics_file import read_metrics


def better(name: str) -> str | None:
    """Whether a lower or a higher value of a number is better; None where neither is known to be."""
    from lightning_gen.results.result import Name

    found = Name.parse(name).about.better
    return found if found in ("lower", "higher") else None


def objective(name: str, folder: RunFolder) -> float:
    """Print and return the run's last value of the number, of its evaluation or its record; ValueError for none."""
    from lightning_gen.results.store import RECORD, read_record

    values = {line["name"]: line["value"] for line in read_record(folder.path / RECORD)}
    if folder.metrics.is_file():
        values |= {key: entry["value"] for key, entry in read_metrics(folder.metrics).items()}
    if name not in values:
        raise ValueError(
            f"optimize is {name}, and {folder.path} has measured no such number: {choose(name, [*values])}"
        )
    print(f"{name}: {values[name]:g}")
    return values[name]


def check_objective(name: str | None, trainer: Any, module: Any) -> None:
    """ValueError, before any work, for a number that the run will not have, or a validation's after its last epoch."""
    from lightning_gen.callbacks.monitored import VALIDATION, check_time, published, unmeasured
    from lightning_gen.results.result import Name

    if name is None:
        return
    known = published(trainer, module)
    # Those of training and speed, and what somebody else's callback measures, are known when they come.
    if name not in known and None not in known.values() and not name.startswith(("train/", "speed/")):
        raise ValueError(f"optimize is {name}, {unmeasured(name, known)}")
    if Name.parse(name).quantity == VALIDATION and not trainer.testing:
        check_time(trainer, f"optimize is {name}", known.get(name))

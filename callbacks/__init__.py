"""What a run does beside training: samples, metrics, likelihoods, pictures, records. Importing this costs nothing."""

from importlib import import_module
from typing import Any

_HOME = {
    "Checkpoints": "checkpoints",
    "Curves": "curves",
    "Likelihood": "likelihood",
    "Pictures": "pictures",
    "Progress": "progress",
    "Quality": "quality",
    "RecordLogger": "record",
    "Resume": "record",
    "TensorBoard": "tensorboard",
    "Throughput": "throughput",
    "Wandb": "wandb",
    "closing_table": "report",
    "draw_curves": "curves",
    "grid": "drawing",
    "log_image": "record",
    "publish": "record",
    "read_metrics": "record",
    "read_record": "record",
    "save_samples": "drawing",
    "strip": "drawing",
    "write_report": "report",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'callbacks' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"callbacks.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__

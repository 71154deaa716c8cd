"""Callbacks run the samplers, measure, draw, record and keep: Lightning's hooks, no algorithm of their own.

Every name is imported when it is first used: `import callbacks` alone costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for readers of the source: editors, and the check of configs
    from callbacks.ais import AnnealedImportance
    from callbacks.checkpoints import AtomicCheckpointIO, Checkpoints
    from callbacks.compare import write_comparison
    from callbacks.curves import Curves, draw_curves
    from callbacks.density import KernelDensityLikelihood
    from callbacks.drawing import grid, save_samples, strip
    from callbacks.energies import EnergyPictures
    from callbacks.field import ScoreField
    from callbacks.health import ChainHealth
    from callbacks.importance import ImportanceLikelihood
    from callbacks.likelihood import FlowLikelihood, Likelihood
    from callbacks.pictures import Pictures
    from callbacks.progress import Progress
    from callbacks.quality import Quality
    from callbacks.record import RecordLogger, Resume, log_image, publish, read_metrics, read_record
    from callbacks.report import closing_table, write_report
    from callbacks.representations import Representations
    from callbacks.samples import GivenQuality, GivenSamples
    from callbacks.solvers import SamplerTable
    from callbacks.tensorboard import TensorBoard
    from callbacks.throughput import Throughput
    from callbacks.wandb import Wandb

_HOME = {
    "ais": ("AnnealedImportance",),
    "checkpoints": ("AtomicCheckpointIO", "Checkpoints"),
    "compare": ("write_comparison",),
    "curves": ("Curves", "draw_curves"),
    "density": ("KernelDensityLikelihood",),
    "drawing": ("grid", "save_samples", "strip"),
    "energies": ("EnergyPictures",),
    "field": ("ScoreField",),
    "health": ("ChainHealth",),
    "importance": ("ImportanceLikelihood",),
    "likelihood": ("FlowLikelihood", "Likelihood"),
    "pictures": ("Pictures",),
    "progress": ("Progress",),
    "quality": ("Quality",),
    "record": ("RecordLogger", "Resume", "log_image", "publish", "read_metrics", "read_record"),
    "report": ("closing_table", "write_report"),
    "samples": ("GivenQuality", "GivenSamples"),
    "representations": ("Representations",),
    "solvers": ("SamplerTable",),
    "tensorboard": ("TensorBoard",),
    "throughput": ("Throughput",),
    "wandb": ("Wandb",),
}
__all__ = [
    "AnnealedImportance",
    "AtomicCheckpointIO",
    "ChainHealth",
    "Checkpoints",
    "Curves",
    "EnergyPictures",
    "FlowLikelihood",
    "GivenQuality",
    "GivenSamples",
    "ImportanceLikelihood",
    "KernelDensityLikelihood",
    "Likelihood",
    "Pictures",
    "Progress",
    "Quality",
    "RecordLogger",
    "Representations",
    "Resume",
    "SamplerTable",
    "ScoreField",
    "TensorBoard",
    "Throughput",
    "Wandb",
    "closing_table",
    "draw_curves",
    "grid",
    "log_image",
    "publish",
    "read_metrics",
    "read_record",
    "save_samples",
    "strip",
    "write_comparison",
    "write_report",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"callbacks.{module}"), name)
    raise AttributeError(f"module callbacks has no attribute {name}; it has {', '.join(__all__)}")

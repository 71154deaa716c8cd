"""Callbacks run the samplers, measure, draw, record and keep: Lightning's hooks, no algorithm of their own.

Every name is imported when it is first used: importing the package alone costs nothing.
"""

# ruff: noqa: F401  # __all__ is made from _HOME

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for readers of the source: editors, and the check of configs
    from lightning_gen.callbacks.chain_health import ChainHealth
    from lightning_gen.callbacks.checkpoints import Checkpoints
    from lightning_gen.callbacks.collapse import CollapseAlarm
    from lightning_gen.callbacks.curves import Curves
    from lightning_gen.callbacks.energy_pictures import EnergyPictures
    from lightning_gen.callbacks.evaluation import Evaluation
    from lightning_gen.callbacks.given_quality import GivenQuality
    from lightning_gen.callbacks.likelihood.ais import AnnealedImportance
    from lightning_gen.callbacks.likelihood.base import FlowLikelihood, Likelihood
    from lightning_gen.callbacks.likelihood.decoders import DecoderAnnealedImportance
    from lightning_gen.callbacks.likelihood.exact import ExactLikelihood
    from lightning_gen.callbacks.likelihood.importance import ImportanceLikelihood
    from lightning_gen.callbacks.likelihood.kde import KernelDensityLikelihood
    from lightning_gen.callbacks.likelihood.latent import LatentLikelihood
    from lightning_gen.callbacks.loggers.record import RecordLogger, Resume
    from lightning_gen.callbacks.loggers.tensorboard import TensorBoard
    from lightning_gen.callbacks.loggers.wandb import Wandb
    from lightning_gen.callbacks.measuring import Measuring
    from lightning_gen.callbacks.modes import Modes
    from lightning_gen.callbacks.pictures import Pictures
    from lightning_gen.callbacks.progress import Progress
    from lightning_gen.callbacks.publishing import log_image, publish
    from lightning_gen.callbacks.quality import Quality
    from lightning_gen.callbacks.representations import Representations
    from lightning_gen.callbacks.sampler_table import SamplerTable
    from lightning_gen.callbacks.score_field import ScoreField
    from lightning_gen.callbacks.straightness import Straightness
    from lightning_gen.callbacks.throughput import Throughput

_HOME = {
    "checkpoints": ("Checkpoints",),
    "chain_health": ("ChainHealth",),
    "collapse": ("CollapseAlarm",),
    "curves": ("Curves",),
    "energy_pictures": ("EnergyPictures",),
    "evaluation": ("Evaluation",),
    "given_quality": ("GivenQuality",),
    "likelihood.ais": ("AnnealedImportance",),
    "likelihood.base": ("FlowLikelihood", "Likelihood"),
    "likelihood.decoders": ("DecoderAnnealedImportance",),
    "likelihood.exact": ("ExactLikelihood",),
    "likelihood.importance": ("ImportanceLikelihood",),
    "likelihood.kde": ("KernelDensityLikelihood",),
    "likelihood.latent": ("LatentLikelihood",),
    "loggers.record": ("RecordLogger", "Resume"),
    "loggers.tensorboard": ("TensorBoard",),
    "loggers.wandb": ("Wandb",),
    "measuring": ("Measuring",),
    "modes": ("Modes",),
    "pictures": ("Pictures",),
    "progress": ("Progress",),
    "publishing": ("log_image", "publish"),
    "quality": ("Quality",),
    "representations": ("Representations",),
    "sampler_table": ("SamplerTable",),
    "score_field": ("ScoreField",),
    "straightness": ("Straightness",),
    "throughput": ("Throughput",),
}
__all__ = sorted(name for names in _HOME.values() for name in names)


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"lightning_gen.callbacks.{module}"), name)
    raise AttributeError(f"module callbacks has no attribute {name}; it has {', '.join(__all__)}")

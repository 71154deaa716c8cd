"""The mathematics of a model: plain modules that give the score of a noised density."""

from lightning_gen.models.denoiser import Denoiser
from lightning_gen.models.energy import EnergyModel, EnergyNetwork
from lightning_gen.models.guidance import Guided
from lightning_gen.models.score import ScoreModel, ScoreNetwork

__all__ = ["Denoiser", "EnergyModel", "EnergyNetwork", "Guided", "ScoreModel", "ScoreNetwork"]

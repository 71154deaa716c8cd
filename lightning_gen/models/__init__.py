"""The mathematics of a model: plain modules that give the score of a noised density."""

from lightning_gen.models.denoiser import Denoiser
from lightning_gen.models.energy import EnergyModel, EnergyNetwork, SumOfEnergies
from lightning_gen.models.gaussian_rbm import GaussianBernoulliRBM
from lightning_gen.models.guidance import Guided
from lightning_gen.models.rbm import RBM, HiddenUnits
from lightning_gen.models.score import ScoreModel, ScoreNetwork
from lightning_gen.models.vae import VAE

__all__ = [
    "RBM",
    "VAE",
    "Denoiser",
    "EnergyModel",
    "EnergyNetwork",
    "GaussianBernoulliRBM",
    "Guided",
    "HiddenUnits",
    "ScoreModel",
    "ScoreNetwork",
    "SumOfEnergies",
]

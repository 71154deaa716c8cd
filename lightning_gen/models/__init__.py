"""Models: torch modules whose capabilities say which mathematical operations they offer."""

from lightning_gen.models.autoregressive import Autoregressive
from lightning_gen.models.base import (
    Conditionals,
    Encoded,
    Energy,
    GaussianConditionals,
    LatentVariables,
    Model,
    Normalised,
    ObservationModel,
)
from lightning_gen.models.closed_form import Beta, Dirichlet, Exponential, Gamma, Gaussian, Poisson
from lightning_gen.models.denoiser import Denoiser
from lightning_gen.models.energy import EnergyNetwork, SmoothEnergy, SumOfEnergies
from lightning_gen.models.flow import Flow
from lightning_gen.models.gaussian_rbm import GaussianBernoulliRBM
from lightning_gen.models.generated_energy import GeneratedEnergy
from lightning_gen.models.generator import Generator
from lightning_gen.models.guidance import Guided
from lightning_gen.models.observation import GaussianObservation
from lightning_gen.models.quadrature import Quadrature
from lightning_gen.models.rbm import RBM, HiddenUnits
from lightning_gen.models.recovery import RecoveryEnergy
from lightning_gen.models.requirements import Requires, capabilities, fits, has, why_unfit
from lightning_gen.models.score import Reading, Scored, ScoreNetwork
from lightning_gen.models.support import BINARY, COUNTS, NON_NEGATIVE, POSITIVE, REAL, SIMPLEX, UNIT, Support, levels
from lightning_gen.models.vae import VAE
from lightning_gen.models.velocity import VelocityNetwork

__all__ = [
    "Autoregressive",
    "BINARY",
    "COUNTS",
    "NON_NEGATIVE",
    "POSITIVE",
    "RBM",
    "REAL",
    "SIMPLEX",
    "UNIT",
    "VAE",
    "Beta",
    "Conditionals",
    "Denoiser",
    "Dirichlet",
    "Encoded",
    "Energy",
    "EnergyNetwork",
    "Exponential",
    "Flow",
    "Gamma",
    "Gaussian",
    "GaussianBernoulliRBM",
    "GaussianConditionals",
    "GaussianObservation",
    "GeneratedEnergy",
    "Generator",
    "Guided",
    "HiddenUnits",
    "LatentVariables",
    "Model",
    "Normalised",
    "ObservationModel",
    "Poisson",
    "Quadrature",
    "Reading",
    "RecoveryEnergy",
    "Requires",
    "Scored",
    "ScoreNetwork",
    "SmoothEnergy",
    "SumOfEnergies",
    "Support",
    "VelocityNetwork",
    "capabilities",
    "fits",
    "has",
    "levels",
    "why_unfit",
]

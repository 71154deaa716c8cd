"""Samplers: they draw samples of a model, one transition at a time."""

from lightning_gen.samplers.adaptive import RK45
from lightning_gen.samplers.base import Denoising, ReverseDiffusion, Sampler, Stepwise, StepwiseDiffusion, Transition
from lightning_gen.samplers.diffusion import DDIM, Ancestral
from lightning_gen.samplers.exact import Exact
from lightning_gen.samplers.flow import FlowODE
from lightning_gen.samplers.gibbs import Gibbs, GibbsLangevin
from lightning_gen.samplers.hmc import HMC
from lightning_gen.samplers.latent import Latent
from lightning_gen.samplers.mcmc import AnnealedLangevin, Langevin
from lightning_gen.samplers.metropolis import MALA
from lightning_gen.samplers.ode import DPMSolver, EDMHeun, ProbabilityFlow
from lightning_gen.samplers.prior import Prior
from lightning_gen.samplers.recovery import TiltedLangevin
from lightning_gen.samplers.sde import EulerMaruyama, PredictorCorrector
from lightning_gen.samplers.sequential import Sequential

__all__ = [
    "DDIM",
    "HMC",
    "MALA",
    "RK45",
    "Ancestral",
    "AnnealedLangevin",
    "DPMSolver",
    "Denoising",
    "EDMHeun",
    "EulerMaruyama",
    "FlowODE",
    "Exact",
    "Gibbs",
    "GibbsLangevin",
    "Langevin",
    "Latent",
    "PredictorCorrector",
    "Prior",
    "ProbabilityFlow",
    "ReverseDiffusion",
    "Sampler",
    "Sequential",
    "Stepwise",
    "StepwiseDiffusion",
    "TiltedLangevin",
    "Transition",
]

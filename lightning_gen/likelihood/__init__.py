"""Log-likelihood: variational bound, probability-flow ODE, annealed importance sampling, importance sampling, KDE."""

from lightning_gen.likelihood.ais import Partition, log_weights, partition, temperatures
from lightning_gen.likelihood.decoders import DecoderAIS
from lightning_gen.likelihood.dequantise import Bins, bits_per_dim, dequantised
from lightning_gen.likelihood.importance import Bounds, bounds
from lightning_gen.likelihood.kde import Density, kernel_density
from lightning_gen.likelihood.latent import latent_bound
from lightning_gen.likelihood.ode import ODELikelihood
from lightning_gen.likelihood.paths import (
    AnnealingPath,
    EnergyPath,
    GaussianPath,
    RBMPath,
    annealing_path,
    floored,
    path_class,
)
from lightning_gen.likelihood.proposals import EncoderProposal, FlowProposal, PriorProposal, Proposal
from lightning_gen.likelihood.tuning import PILOT_BURN_IN, tuned_steps
from lightning_gen.likelihood.variational import Convention, Variance, decoder_deviation, variational_bound

__all__ = [
    "PILOT_BURN_IN",
    "AnnealingPath",
    "Bins",
    "Bounds",
    "Convention",
    "DecoderAIS",
    "Density",
    "EncoderProposal",
    "EnergyPath",
    "FlowProposal",
    "GaussianPath",
    "ODELikelihood",
    "Partition",
    "PriorProposal",
    "Proposal",
    "RBMPath",
    "Variance",
    "annealing_path",
    "bits_per_dim",
    "bounds",
    "decoder_deviation",
    "dequantised",
    "floored",
    "kernel_density",
    "latent_bound",
    "log_weights",
    "partition",
    "path_class",
    "temperatures",
    "tuned_steps",
    "variational_bound",
]

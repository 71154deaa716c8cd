"""How probable a model finds data: the diffusion's variational bound, and the density along the probability flow."""

from lightning_gen.likelihood.bound import variational_bound
from lightning_gen.likelihood.dequantise import bits_per_dim, dequantised
from lightning_gen.likelihood.flow import Flow

__all__ = ["Flow", "bits_per_dim", "dequantised", "variational_bound"]

"""Invertible networks z = f(x) with log |det dz/dx|, for normalising flows, and dequantisers of images."""

from lightning_gen.nets.flows.autoregressive import MAF, NSF
from lightning_gen.nets.flows.base import Composed, FlowNetwork, Invertible
from lightning_gen.nets.flows.coupled import NICE, Glow, RealNVP
from lightning_gen.nets.flows.dequantiser import Dequantiser, UniformDequantiser, VariationalDequantiser
from lightning_gen.nets.flows.layers import ActNorm, Coupling, InvertibleConv, Logit, Squeeze
from lightning_gen.nets.flows.mixture import MixtureCoupling, MixtureFlow

__all__ = [
    "MAF",
    "NICE",
    "NSF",
    "ActNorm",
    "Composed",
    "Coupling",
    "Dequantiser",
    "FlowNetwork",
    "Glow",
    "Invertible",
    "InvertibleConv",
    "Logit",
    "MixtureCoupling",
    "MixtureFlow",
    "RealNVP",
    "Squeeze",
    "UniformDequantiser",
    "VariationalDequantiser",
]

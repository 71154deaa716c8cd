"""Samplers: values that turn a model into samples, one transition at a time."""

from lightning_gen.samplers.base import Sampler, Transition
from lightning_gen.samplers.diffusion import DDIM, Ancestral

__all__ = ["DDIM", "Ancestral", "Sampler", "Transition"]

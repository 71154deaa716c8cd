"""LightningModules: each names the model, process and loss that its paper combines."""

from lightning_gen.families.base import GenerativeModule
from lightning_gen.families.ddpm import DDPM

__all__ = ["DDPM", "GenerativeModule"]

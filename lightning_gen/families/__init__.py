"""Families: the LightningModules, each a paper's combination of model, process and loss."""

from lightning_gen.families.base import GenerativeModule
from lightning_gen.families.ddpm import DDPM

__all__ = ["DDPM", "GenerativeModule"]

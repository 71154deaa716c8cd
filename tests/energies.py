"""Energies whose densities are known: a Gaussian, a double well."""

import torch

from lightning_gen.models import SmoothEnergy
from lightning_gen.process import Clean


class Quadratic(SmoothEnergy):
    """E = 1/2 sum precision (x - mean)^2 + constant, a number or one for each dimension; counts its evaluations."""

    def __init__(self, precision=1.0, mean=0.0, constant=0.0, learned=False):
        super().__init__(Clean())
        for name, value in {"precision": precision, "mean": mean, "constant": constant}.items():
            value = torch.tensor(value, dtype=torch.float64)
            setattr(self, name, torch.nn.Parameter(value, requires_grad=learned))
        self.calls = 0

    def energy(self, x):
        """(B,)."""
        self.calls += 1
        return 0.5 * (self.precision * (x - self.mean).square()).flatten(1).sum(1) + self.constant


class DoubleWell(SmoothEnergy):
    """E = (x^2 - 1)^2 / (2 * 0.3)."""

    def __init__(self):
        super().__init__(Clean())

    def energy(self, x):
        """(B,)."""
        return ((x.square() - 1).square() / 0.6).flatten(1).sum(1)

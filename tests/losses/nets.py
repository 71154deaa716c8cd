"""Small analytic networks whose scores and energies are smooth, and integrals that are exact for them."""

import numpy as np
import torch
from torch import Tensor, nn

from lightning_gen.models import EnergyNetwork, Scored, ScoreNetwork
from lightning_gen.process import Clean, Process
from tests.gaussian import example


class Sine(nn.Module):
    """W2 sin(W1 x + b) - x / 2: entire in x, its Jacobian not symmetric."""

    def __init__(self, d: int = 2, seed: int = 0, width: int = 5):
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        for name, shape in {"first": (width, d), "bias": (width,), "second": (d, width)}.items():
            setattr(self, name, nn.Parameter(0.4 * torch.randn(shape, generator=g, dtype=torch.float64)))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Like x."""
        flat = x.flatten(1)
        return (torch.sin(flat @ self.first.T + self.bias) @ self.second.T - flat / 2).view_as(x)


def energy(readout: str):
    """Makes -grad E of a readout."""
    return lambda net, process=None: EnergyNetwork(net, process, readout)


MODELS = {
    "score": ScoreNetwork,
    "product": energy("product"),
    "reconstruction": energy("reconstruction"),
    "norm": energy("norm"),
}


def model(name: str, process: Process | None = None, seed: int = 0, d: int = 2) -> Scored:
    """A score network or -grad E over a Sine."""
    return MODELS[name](Sine(d, seed), Clean() if process is None else process)


def quadrature(nodes: int = 50) -> tuple[Tensor, Tensor]:
    """Points (n, 2) and weights (n,) that integrate smooth functions under N(*example()) to rounding."""
    place, weight = np.polynomial.hermite_e.hermegauss(nodes)
    z = torch.cartesian_prod(*[torch.as_tensor(place)] * 2)
    w = torch.cartesian_prod(*[torch.as_tensor(weight / weight.sum())] * 2).prod(1)
    mean, cov = example()
    return mean + z @ torch.linalg.cholesky(cov).T, w

"""An energy for each level of a discrete process, through the conditionals from one level to the one before."""

from typing import Literal

import torch
from torch import Tensor, nn

from lightning_gen.models.base import Model
from lightning_gen.models.energy import READOUTS
from lightning_gen.options import Positive
from lightning_gen.process import DiscreteVP, expand
from lightning_gen.randomness import Source, normal


class RecoveryEnergy(Model):
    """p(y | x_{k+1}) ~ exp(-E(y, k) - ||x_{k+1} - y||^2 / (2 b_k^2)), y = a_k x_k, for each level k = 0..T - 1.

    x_{k+1} = a_k x_k + b_k noise is a step of the process, b_k^2 = 1 - a_k^2, and exp(-E(y, k)) the unnormalised
    density of y. The conditional has one mode where b_k is small, so that short chains mix.
    Learning energy-based models by diffusion recovery likelihood (Gao et al., 2021, eq. 10 and 14),
    https://arxiv.org/abs/2012.08125

    Args:
        net: the network f(y, time), like y, or (B,) for the readout scalar.
        process: the chain, a VP of few steps.
        readout: E is y^T f (product), 1/2 ||y - f||^2 (reconstruction), 1/2 ||f||^2 (norm) or f (scalar).
        scale: factor of the readout, > 0.
    """

    def __init__(
        self,
        net: nn.Module,
        process: DiscreteVP,
        readout: Literal["product", "reconstruction", "norm", "scalar"] = "norm",
        scale: Positive = 1.0,
    ) -> None:
        super().__init__()
        self.net, self.process, self.readout, self.scale = net, process, readout, scale
        alpha = process.alpha(torch.arange(process.steps + 1, dtype=torch.float64) / process.steps)
        self.shrink = (alpha[1:] / alpha[:-1]).tolist()  # a_0 .. a_{T-1}

    def networks(self) -> list[nn.Module]:
        """The one network."""
        return [self.net]

    def factors(self, k: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """a_k and b_k^2 of levels k (B,), as factors of y, (B, 1, ...)."""
        a = torch.tensor(self.shrink, device=y.device, dtype=y.dtype)[k]
        return expand(a, y), expand(1 - a.square(), y)

    def energy(self, y: Tensor, k: Tensor) -> Tensor:
        """E(y, k), nats, (B,), for levels k (B,); the network's time is 999 k / T."""
        time = (999 * k / self.process.steps).to(torch.promote_types(y.dtype, torch.float32))
        return self.scale * READOUTS[self.readout](y, self.call(self.net, y, time))

    def slope(self, y: Tensor, k: Tensor) -> Tensor:
        """grad_y E(y, k), (B, ...), detached."""
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.energy(y, k).sum(), y)
        return gradient

    def prior(self, shape: tuple[int, ...], generator: Source = None) -> Tensor:
        """x_T ~ N(0, I), (B, ...)."""
        return normal(shape, generator)

    def why_no_prior(self) -> None:
        """None: chains start from x_T."""
        return None

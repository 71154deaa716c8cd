"""An energy for each level of a discrete process, through the conditionals from one level to the one before."""

from typing import Literal

import torch
from torch import Tensor, nn

from lightning_gen.models.base import Model
from lightning_gen.models.energy import read
from lightning_gen.process import DiscreteVP
from lightning_gen.randomness import Source, normal


class RecoveryEnergy(Model):
    """p(y | x_{k+1}) ~ exp(-E(y, k) - ||x_{k+1} - y||^2 / (2 b_k^2)), y = a_k x_k, for each level k = 0..T - 1.

    x_k are the data after k + 1 of the T + 1 steps of the process, x_{k+1} = a_k x_k + b_k noise, b_k^2 = 1 - a_k^2,
    and exp(-E(y, k)) is the unnormalised density of y. E is a readout over v_k, the variance of the noise in y: no
    density of y has a curvature above 1 / v_k. The conditional has one mode where b_k is small, so short chains mix.
    Learning energy-based models by diffusion recovery likelihood (Gao et al., 2021, eq. 10 and 14),
    https://arxiv.org/abs/2012.08125

    Args:
        net: the network f(y, time), like y, or (B,) for the readout scalar.
        process: the chain, a VP of few steps, the first of which gives the data a little noise.
        readout: v_k E is y^T f (product), 1/2 ||y - f||^2 (reconstruction), 1/2 ||f||^2 (norm) or f (scalar).
    """

    def __init__(
        self,
        net: nn.Module,
        process: DiscreteVP,
        readout: Literal["product", "reconstruction", "norm", "scalar"] = "reconstruction",
    ) -> None:
        super().__init__()
        self.net, self.process, self.readout, self.levels = net, process, readout, process.steps - 1
        if self.levels < 1:
            raise ValueError(
                f"RecoveryEnergy.process has {process.steps} steps, expected at least 2: the noise of level 0, and a "
                "step to level 1"
            )
        alpha = process.alpha(torch.arange(1, process.steps + 1, dtype=torch.float64) / process.steps)
        self.alpha = alpha.tolist()  # of x_0 .. x_T
        self.shrink = (alpha[1:] / alpha[:-1]).tolist()  # a_0 .. a_{T-1}
        variances = (alpha[1:] / alpha[:-1]).square() * (1 - alpha[:-1].square())  # v_k
        self.noise_variance = variances.tolist()
        self.register_buffer("variances", variances, persistent=False)  # a chain's step copies none to the device

    def networks(self) -> list[nn.Module]:
        """The one network."""
        return [self.net]

    def energy(self, y: Tensor, k: Tensor) -> Tensor:
        """E(y, k), nats, (B,), for levels k (B,)."""
        return self.weighted(y, k) / self.variances[k].to(y.dtype)

    def weighted(self, y: Tensor, k: Tensor) -> Tensor:
        """v_k E(y, k), the readout, (B,); the network's time is 999 k / T."""
        time = (999 * k / self.levels).to(torch.promote_types(y.dtype, torch.float32))
        return read(self.readout, y, self.call(self.net, y, time), self.net)

    def slope(self, y: Tensor, k: Tensor) -> Tensor:
        """grad_y E(y, k), (B, ...), detached."""
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.energy(y, k).sum(), y)
        return gradient

    def clean(self, x: Tensor) -> Tensor:
        """The mean of the data given x_0 = x, (B, ...), by Tweedie's formula."""
        a, alpha = self.shrink[0], self.alpha[0]
        k = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return (x - (1 - alpha**2) * a * self.slope(a * x, k)) / alpha

    def prior(self, shape: tuple[int, ...], generator: Source = None) -> Tensor:
        """x_T ~ N(0, I), (B, ...)."""
        return normal(shape, generator)

    def why_no_prior(self) -> None:
        """None: chains start from x_T."""
        return None

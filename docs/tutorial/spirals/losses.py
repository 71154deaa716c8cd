"""A loss: what it needs of the model, and one value a sample."""

import torch
from torch import Tensor

from lightning_gen.losses import Loss
from lightning_gen.models import Scored
from lightning_gen.options import Positive


class PseudoHuber(Loss):
    """sum_i d^2 (sqrt(1 + (e_i / d)^2) - 1), e = E[noise | x_t] - noise at a uniform time: less of outliers.

    Args:
        delta: d, where squares turn into absolute values.
    """

    needs = (Scored,)
    supports = ("real",)

    def __init__(self, delta: Positive = 1.0) -> None:
        super().__init__()
        self.delta = delta

    def forward(self, model: Scored, x: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of each sample, (B,)."""
        t = 1e-3 + (1 - 1e-3) * torch.rand(len(x), generator=generator, device=x.device)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        error = model.noise(model.process.perturb(x, t, noise), t) - noise
        return (self.delta**2 * ((1 + (error / self.delta).square()).sqrt() - 1)).flatten(1).sum(1)

"""Flow matching: the squared error of the velocity along straight or other paths from data to noise."""

from typing import Literal

import torch
from torch import Tensor

from lightning_gen.losses.base import Loss
from lightning_gen.losses.times import Times
from lightning_gen.models import Scored
from lightning_gen.models.score import has_velocity
from lightning_gen.process import double, expand
from lightning_gen.randomness import noise_like


class FlowMatching(Loss):
    """||u(x_t, t) - (alpha' x_0 + sigma' noise)||^2, the mean over dimensions, at random times t.

    For x_t = (1 - t) x_0 + t noise the target is noise - x_0. Flow matching (Lipman et al., 2023, eq. 23),
    https://arxiv.org/abs/2210.02747; rectified flow (Liu et al., 2023, eq. 1), https://arxiv.org/abs/2209.03003;
    optimal coupling (Tong et al., 2024, section 3.2.3), https://arxiv.org/abs/2302.00482

    Args:
        times: distribution of t, (n, generator) -> (n,) in [0, 1].
        coupling: of x_0 and noise: independent, or optimal: the pairs of least sum of ||x_0 - noise||^2 in a batch.
    """

    needs = (Scored,)
    supports = ("real",)

    def __init__(self, times: Times, coupling: Literal["independent", "optimal"] = "independent") -> None:
        super().__init__()
        self.times, self.coupling = times, coupling

    def check(self, model: Scored) -> None:
        """TypeError for a model without a score, ValueError for a process without noise or with infinite rates."""
        super().check(model)
        if not has_velocity(model.process):
            raise ValueError(
                f"{type(self).__name__} needs a process whose alpha and sigma have finite derivatives in t, not all 0, "
                f"got {type(model.process).__name__}: choose Interpolant, or the loss DenoisingScoreMatching"
            )

    def forward(self, model: Scored, x: Tensor, generator: torch.Generator) -> Tensor:
        """Squared error of each sample, (B,)."""
        t = self.times(len(x), generator)
        noise = noise_like(x, generator)
        if self.coupling == "optimal":
            noise = noise[optimal_partners(x, noise)]
        return self.error(model, x, noise, t)

    def error(self, model: Scored, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Squared error of each pair of x_0 and noise at time t, (B,), the mean over dimensions."""
        alpha_rate, sigma_rate = model.process.rates(double(t))
        target = expand(alpha_rate, x) * x + expand(sigma_rate, x) * noise
        return (model.velocity(model.process.perturb(x, t, noise), t) - target).square().flatten(1).mean(1)


def optimal_partners(x: Tensor, noise: Tensor) -> Tensor:
    """Index of each x_i's partner in noise, (B,): the permutation p of least sum_i ||x_i - noise_p(i)||^2.

    A permutation leaves the batch of x and that of noise as they are, and so both marginals.
    """
    from scipy.optimize import linear_sum_assignment

    # The squares sum to the same for every permutation, so that the inner products decide.
    products = double(x.detach().flatten(1)) @ double(noise.flatten(1)).T
    return torch.from_numpy(linear_sum_assignment(products.cpu().numpy(), maximize=True)[1]).to(x.device)

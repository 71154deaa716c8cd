"""Exact velocities of Gaussian data, for any alpha(1)."""

from torch import Tensor

from lightning_gen.models import Scored
from lightning_gen.process import Interpolant, Process


class GaussianVelocity(Scored):
    """u of data N(mean, std^2 I): alpha' E[x_0 | x] + sigma' E[noise | x], finite at t = 0 and at alpha(1) = 0."""

    def __init__(self, std: float = 0.7, alpha_end: float = 0.0, mean: float = 0.0) -> None:
        super().__init__(Interpolant(alpha_end))
        self.std, self.mean = std, mean

    def law(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of x_t."""
        alpha = self.process.alpha(t)
        return alpha * self.mean, (alpha * self.std).square() + self.process.variance(t)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        t = t.double().reshape(-1, *[1] * (x.ndim - 1))
        alpha, sigma, (mean, total) = self.process.alpha(t), t, self.law(t)
        clean = self.mean + alpha * self.std**2 / total * (x - mean)
        return sigma / total * (x - mean) - (1 - self.process.alpha_end) * clean


class Straight(Scored):
    """The velocity of pairs (x_0, noise) with x_0 = shift + scale noise: its paths are straight lines.

    Args:
        process: the noising process.
    """

    scale, shift = 0.4, 1.5

    def __init__(self, process: Process | None = None) -> None:
        super().__init__(Interpolant() if process is None else process)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        t = t.double().reshape(-1, *[1] * (x.ndim - 1))
        noise = (x - (1 - t) * self.shift) / ((1 - t) * self.scale + t)
        return noise - (self.shift + self.scale * noise)

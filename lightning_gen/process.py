"""Noising processes: p(x_t | x_0) = N(alpha_t x_0, sigma_t^2 I), t in [0, 1], with the least noise at t = 0.

Every process is the solution of dx = f_t x dt + g_t dw, with f = d log alpha / dt and
g^2 = d sigma^2 / dt - 2 f sigma^2 (Song et al., 2021, https://arxiv.org/abs/2011.13456).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from lightning_gen.discrete import cosine_betas, interpolate, linear_betas, position_of  # noqa: F401  # configs name them here
from lightning_gen.options import Checked, Count, OpenUnitInterval, Positive, Rate


def expand(coefficient: Tensor, x: Tensor) -> Tensor:
    """Coefficients (B,) or () as (B, 1, ...), to multiply x (B, ...)."""
    return coefficient.reshape(coefficient.shape + (1,) * (x.ndim - coefficient.ndim)).to(x.dtype)


def double(t: Tensor) -> Tensor:
    """t in float64, or float32 on MPS, the shape of t: differences such as 1 - alpha^2 lose digits at small sigma."""
    return t.float() if t.device.type == "mps" else t.double()


def instant(t: float, x: Tensor) -> Tensor:
    """The time t repeated for each sample of x, (B,), created on its device without a copy from the host."""
    return torch.full((len(x),), t, device=x.device, dtype=torch.float32 if x.device.type == "mps" else torch.float64)


class Process(Checked, nn.Module, ABC):
    """The distribution of x_t given x_0, its SDE and its times; it holds no parameter and no device buffer."""

    steps: int | None = None  # the T of a discrete process
    levels: int | None = None  # the L of a continuous process that was trained at L times only

    def __init_subclass__(cls, **options: object) -> None:
        """A class with moments of its own has the `invert` of any process, unless it brings one."""
        super().__init_subclass__(**options)
        if {"alpha", "sigma", "variance", "log_alpha"} & cls.__dict__.keys() and "invert" not in cls.__dict__:
            cls.invert = Process.invert

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """alpha_t, the shape of t, in [0, 1]."""

    @abstractmethod
    def variance(self, t: Tensor) -> Tensor:
        """sigma_t^2, the shape of t; smooth at t = 0, where sigma_t is not."""

    def sigma(self, t: Tensor) -> Tensor:
        """sigma_t, the shape of t."""
        return self.variance(t).sqrt()

    def perturb(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = alpha_t x_0 + sigma_t noise, (B, ...)."""
        return expand(self.alpha(t), x) * x + expand(self.sigma(t), x) * noise

    def sde(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """f_t and g_t^2, each the shape of t, by differentiating alpha and variance."""
        drift = derivative(lambda t: self.alpha(t).log(), t)
        return drift, derivative(self.variance, t) - 2 * drift * self.variance(t)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d alpha / dt and d sigma / dt, each the shape of t, not finite where sigma is a root at 0."""
        return derivative(self.alpha, t), derivative(self.sigma, t)

    def time(self, snr: Tensor) -> Tensor:
        """t at which alpha^2 / sigma^2 = snr, float64, the shape of snr; ValueError for a ratio that does not occur."""
        snr = torch.as_tensor(snr, dtype=torch.float64)
        largest, smallest = self.snr(torch.zeros_like(snr)), self.snr(torch.ones_like(snr))
        # A ratio computed from a time in [0, 1] may lie outside by rounding alone.
        if (snr > largest * (1 + 1e-9)).any() or (snr < smallest * (1 - 1e-9)).any():
            raise ValueError(
                f"alpha^2/sigma^2 is {snr.min():.3g} to {snr.max():.3g}, expected within [{smallest.min():.3g}, "
                f"{largest.max():.3g}] of {type(self).__name__}: choose times or noise levels inside"
            )
        return self.invert(snr)

    def invert(self, snr: Tensor) -> Tensor:
        """t at which alpha^2 / sigma^2 = snr, unchecked and without a host sync: bisection, as the ratio falls."""
        low, high = torch.zeros_like(snr), torch.ones_like(snr)
        for _ in range(80):
            middle = (low + high) / 2
            later = self.snr(middle) > snr
            low, high = torch.where(later, middle, low), torch.where(later, high, middle)
        return (low + high) / 2

    def snr(self, t: Tensor) -> Tensor:
        """alpha_t^2 / sigma_t^2, the shape of t; infinite where sigma_t = 0."""
        return self.alpha(t).square() / self.variance(t)

    def network_time(self, t: Tensor) -> Tensor:
        """The time as the network receives it, the shape of t: 0 to 999."""
        return 999 * t

    @property
    def prior_sigma(self) -> float:
        """Standard deviation of the prior N(0, sigma^2 I) from which reverse diffusions start."""
        return float(self.sigma(torch.ones((), dtype=torch.float64)))


def derivative(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """The derivative of an elementwise function at t, the shape of t, detached; zero where it is constant."""
    with torch.inference_mode(False), torch.enable_grad():
        y = function(t := t.detach().clone().requires_grad_())
        return torch.autograd.grad(y.sum(), t)[0] if y.requires_grad else torch.zeros_like(t).detach()


class Clean(Process):
    """No noise: alpha = 1, sigma = 0; the process of models of the density of the data themselves."""

    def alpha(self, t: Tensor) -> Tensor:
        """1, the shape of t."""
        return torch.ones_like(t)

    def variance(self, t: Tensor) -> Tensor:
        """0, the shape of t."""
        return torch.zeros_like(t)


class ByLogAlpha(Process):
    """A process given by log alpha, with alpha^2 + sigma^2 = 1 unless a subclass has another variance."""

    prior_sigma = 1.0  # the papers start from N(0, I), not from N(0, sigma_1^2 I)

    @abstractmethod
    def log_alpha(self, t: Tensor) -> Tensor:
        """log alpha_t, the shape of t."""

    def alpha(self, t: Tensor) -> Tensor:
        """alpha_t, the shape of t."""
        return self.log_alpha(t).exp()

    def variance(self, t: Tensor) -> Tensor:
        """1 - alpha_t^2, the shape of t."""
        return 0.0 - torch.expm1(2.0 * self.log_alpha(t))  # not -expm1: that is -0 at t = 0, and the ratio -inf


class VP(ByLogAlpha):
    """Variance preserving: dx = -beta/2 x dt + sqrt(beta) dw, beta linear in t, alpha^2 + sigma^2 = 1.

    Score SDE (Song et al., 2021, eq. 32 and appendix B), https://arxiv.org/abs/2011.13456

    Args:
        beta_min: beta at t = 0, > 0.
        beta_max: beta at t = 1, at least beta_min.
    """

    def __init__(self, beta_min: Positive = 0.1, beta_max: Positive = 20.0) -> None:
        super().__init__()
        if beta_min > beta_max:
            raise ValueError(
                f"{type(self).__name__}.beta_min is {beta_min}, expected at most beta_max = {beta_max}: exchange them"
            )
        self.beta_min, self.beta_max = float(beta_min), float(beta_max)

    def log_alpha(self, t: Tensor) -> Tensor:
        """log alpha_t = -1/2 int_0^t beta, the shape of t."""
        return -0.25 * t.square() * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def invert(self, snr: Tensor) -> Tensor:
        """t in closed form, the shape of snr: snr = 1 / (e^I - 1), where I = int_0^t beta is quadratic in t."""
        integral = torch.log1p(1 / snr).clamp(max=(self.beta_min + self.beta_max) / 2)
        root = (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * integral).sqrt()
        return (2 * integral / (self.beta_min + root)).clamp(max=1)


class SubVP(VP):
    """The sub-VP SDE: alpha as VP, sigma = 1 - alpha^2, a smaller variance at every t.

    Score SDE (Song et al., 2021, eq. 29 of the appendix), https://arxiv.org/abs/2011.13456
    """

    def variance(self, t: Tensor) -> Tensor:
        """(1 - alpha_t^2)^2, the shape of t."""
        return super().variance(t).square()

    def invert(self, snr: Tensor) -> Tensor:
        """t in closed form, the shape of snr: that of a VP with the same alpha."""
        return super().invert(2 / (1 / snr + (1 / snr * (1 / snr + 4)).sqrt()))


class VE(Process):
    """Variance exploding: alpha = 1, sigma_t = sigma_min (sigma_max / sigma_min)^t.

    Score SDE (Song et al., 2021, eq. 31), https://arxiv.org/abs/2011.13456

    Args:
        sigma_min: the smallest sigma, in units of the data, > 0.
        sigma_max: the largest sigma, at t = 1, at least sigma_min.
        start: sigma(0): `sigma_min` (NCSN and the code of Song et al.) or `zero` (the SDE: sigma_min^2 is subtracted).
        levels: number of times, even from 0 to 1, that the model was trained on; null for all t.
    """

    def __init__(
        self,
        sigma_min: Positive = 0.01,
        sigma_max: Positive = 50.0,
        start: Literal["sigma_min", "zero"] = "sigma_min",
        levels: Count | None = None,
    ) -> None:
        super().__init__()
        if sigma_min > sigma_max:
            raise ValueError(f"VE.sigma_min is {sigma_min}, expected at most sigma_max = {sigma_max}: exchange them")
        self.sigma_min, self.sigma_max, self.start, self.levels = float(sigma_min), float(sigma_max), start, levels

    def alpha(self, t: Tensor) -> Tensor:
        """1, the shape of t."""
        return torch.ones_like(t)

    def variance(self, t: Tensor) -> Tensor:
        """sigma_t^2, less sigma_min^2 where start is zero, the shape of t."""
        exponent = 2 * t * math.log(self.sigma_max / self.sigma_min)
        growth = exponent.exp() if self.start == "sigma_min" else exponent.expm1()
        return self.sigma_min**2 * growth

    def invert(self, snr: Tensor) -> Tensor:
        """t in closed form, the shape of snr; outside of [0, 1] for unbounded noise levels, as EDM draws them."""
        growth = 1 / (snr * self.sigma_min**2) + (self.start == "zero")
        return growth.log() / (2 * math.log(self.sigma_max / self.sigma_min))


class Interpolant(Process):
    """The straight line from data to noise: alpha = 1 - (1 - alpha_end) t, sigma = t; the papers' time is 1 - t.

    Rectified flow (Liu et al., 2023, eq. 1), https://arxiv.org/abs/2209.03003; flow matching (Lipman et al., 2023),
    https://arxiv.org/abs/2210.02747

    Args:
        alpha_end: alpha at t = 1, in [0, 1): 0 in the papers, where x_1 is noise alone.
    """

    def __init__(self, alpha_end: Rate = 0.0) -> None:
        super().__init__()
        self.alpha_end = float(alpha_end)

    def alpha(self, t: Tensor) -> Tensor:
        """1 - (1 - alpha_end) t, the shape of t."""
        return (1 - t) + self.alpha_end * t

    def variance(self, t: Tensor) -> Tensor:
        """t^2, the shape of t."""
        return t.square()

    def sigma(self, t: Tensor) -> Tensor:
        """t, whose derivative exists at 0."""
        return t

    def invert(self, snr: Tensor) -> Tensor:
        """t in closed form, the shape of snr."""
        return (1 / (snr.sqrt() + 1 - self.alpha_end)).clamp(max=1)


class DiscreteVP(ByLogAlpha):
    """The Markov chain of DDPM: alpha_k^2 = prod_{i<=k} (1 - beta_i) on the grid t = k / T, k = 1..T; alpha_0 = 1.

    Between grid points log alpha is linear in t, so the coefficients of the SDE are piecewise constant. The network's
    time is T t - 1 = 0..T-1. DDPM (Ho et al., 2020, eq. 2 and 4), https://arxiv.org/abs/2006.11239

    Args:
        betas: beta_1..beta_T, the variances of the T steps, each in (0, 1).
    """

    def __init__(self, betas: Annotated[Sequence[OpenUnitInterval], MinLen(1)]) -> None:
        super().__init__()
        self.steps = len(betas)
        self.table = 0.5 * torch.log1p(-torch.tensor([0.0, *betas], dtype=torch.float64)).cumsum(0)
        self.copies: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def log_alphas(self, t: Tensor) -> Tensor:
        """log alpha on the grid, (T + 1,), with the device and type of t."""
        if (t.device, t.dtype) not in self.copies:
            self.copies[t.device, t.dtype] = self.table.to(device=t.device, dtype=t.dtype)
        return self.copies[t.device, t.dtype]

    def log_alpha(self, t: Tensor) -> Tensor:
        """log alpha_t, linear between grid points, the shape of t."""
        return interpolate(self.log_alphas(t), float(self.steps) * t)  # an integer would be converted at each call

    def invert(self, snr: Tensor) -> Tensor:
        """t in closed form, the shape of snr."""
        return position_of(-0.5 * torch.log1p(1 / snr), self.log_alphas(snr)) / self.steps

    def network_time(self, t: Tensor) -> Tensor:
        """T t - 1: 0..T-1 on the grid, the shape of t; T (k / T), in float32 off k by up to 6e-5, is k."""
        position = float(self.steps) * t
        gap = (position.round() - position).detach()
        return torch.where(gap.abs() < 4 * self.steps * torch.finfo(t.dtype).eps, position + gap, position) - 1.0

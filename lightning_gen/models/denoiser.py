"""Denoisers: each parametrization of the network F is four coefficients (c_skip, c_out, c_in, c_noise)."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_gen.models.score import Factors, Reading, Scored, affine, host_readings, velocity_of
from lightning_gen.process import Process, double, expand

Coefficients = tuple[Tensor, Tensor, Tensor, Tensor]
Parametrization = Callable[[Process, Tensor], Coefficients]


def noise(process: Process, t: Tensor) -> Coefficients:
    """F = noise: x_0 = (x - sigma F) / alpha. DDPM (Ho et al., 2020, eq. 11)."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    return 1 / alpha, -sigma / alpha, torch.ones_like(t), process.network_time(t)


def clean(process: Process, t: Tensor) -> Coefficients:
    """F = x_0."""
    return torch.zeros_like(t), torch.ones_like(t), torch.ones_like(t), process.network_time(t)


def velocity(process: Process, t: Tensor) -> Coefficients:
    """F = v = alpha noise - sigma x_0: x_0 = (alpha x - sigma F) / (alpha^2 + sigma^2).

    Progressive distillation (Salimans & Ho, 2022, appendix D), https://arxiv.org/abs/2202.00512
    """
    alpha, sigma = process.alpha(t), process.sigma(t)
    total = alpha.square() + sigma.square()
    return alpha / total, -sigma / total, torch.ones_like(t), process.network_time(t)


def edm(process: Process, t: Tensor, sigma_data: float = 0.5) -> Coefficients:
    """F such that its input and its target have unit variance for data of standard deviation sigma_data.

    Written for x / alpha at the noise level sigma / alpha. EDM (Karras et al., 2022, table 1),
    https://arxiv.org/abs/2206.00364
    """
    alpha = process.alpha(t)
    level = process.sigma(t) / alpha
    total = level.square() + sigma_data**2
    return sigma_data**2 / total / alpha, level * sigma_data / total.sqrt(), total.rsqrt() / alpha, level.log() / 4


def ve(process: Process, t: Tensor) -> Coefficients:
    """F = -noise of x / alpha at the network time ln(sigma / alpha): score = F / sigma for alpha = 1.

    The published VE networks: Score SDE (Song et al., 2021, appendix H), https://arxiv.org/abs/2011.13456, with data in
    [0, 1]. EDM (Karras et al., 2022, table 1) has ln(sigma / 2) for them, since its data are in [-1, 1].
    """
    alpha = process.alpha(t)
    level = process.sigma(t) / alpha
    return 1 / alpha, level, 1 / alpha, level.log()


PARAMETRIZATIONS: dict[str, Parametrization] = {
    "noise": noise,
    "clean": clean,
    "velocity": velocity,
    "edm": edm,
    "ve": ve,
}


class Denoiser(Scored):
    """D(x, t) = c_skip x + c_out F(c_in x, c_noise) = E[x_0 | x_t = x]; noise and score follow by Tweedie's formula.

    EDM (Karras et al., 2022, eq. 7), https://arxiv.org/abs/2206.00364

    Args:
        net: the network F(x, time) or F(x, time, label), like x.
        process: a noising process with noise.
        parametrization: the quantity that F predicts, or a function of (process, t) that returns the coefficients.
    """

    unshardable = None

    def __init__(
        self,
        net: nn.Module,
        process: Process,
        parametrization: Literal["noise", "clean", "velocity", "edm", "ve"] | Parametrization = "noise",
    ) -> None:
        super().__init__(process)
        if not process.prior_sigma > 0:
            raise ValueError(
                f"Denoiser.process is {type(process).__name__}, expected a process with noise: choose VP, VE or "
                "DiscreteVP, or the model ScoreNetwork"
            )
        self.net = net
        self.coefficients = PARAMETRIZATIONS.get(parametrization, parametrization)

    def networks(self) -> list[nn.Module]:
        """The one network."""
        return [self.net]

    def factors(self, t: Tensor) -> tuple[Tensor, Tensor, Factors, Factors]:
        """c_in, c_noise, and (a, b) of denoise and of noise, each a x + b F, at times t in double precision."""
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        c_skip, c_out, c_in, c_noise = self.coefficients(self.process, t)
        return c_in, c_noise, (c_skip, c_out), ((1 - alpha * c_skip) / sigma, -alpha * c_out / sigma)

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | x_t = x], (B, ...)."""
        c_in, c_noise, clean, _ = self.factors(double(t))
        return affine(clean, x, self.network(x, c_in, c_noise))

    def noise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[noise | x_t = x], (B, ...)."""
        if self.coefficients is noise:  # F is it, so that a training step computes no factors
            return self.network(x, None, self.process.network_time(double(t)))
        c_in, c_noise, _, factors = self.factors(double(t))
        return affine(factors, x, self.network(x, c_in, c_noise))

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """E[dx_t / dt | x_t = x], (B, ...)."""
        c_in, c_noise, clean, noise = self.factors(double(t))
        return affine(velocity_of(self.process, double(t), clean, noise), x, self.network(x, c_in, c_noise))

    def readings(self, times: Sequence[float]) -> list[Reading]:
        """At each time c_in, c_noise and the factors (a, b) of the four quantities, each a x + b F."""
        t = torch.as_tensor(times, dtype=torch.float64)
        return host_readings(self.process, t, *self.factors(t))

    def output(self, x: Tensor, reading: Reading) -> Tensor:
        """F = net(c_in x, c_noise) at the time of a reading, (B, ...)."""
        return self.field(self.net, *self.network_input(x, reading)).to(x.dtype)

    def network(self, x: Tensor, c_in: Tensor | None, c_noise: Tensor) -> Tensor:
        """F(c_in x, c_noise) in the dtype of x, (B, ...), c_in None for 1; bfloat16 would merge neighbouring times."""
        return self.field(
            self.net,
            x if c_in is None else expand(c_in, x) * x,
            c_noise.to(torch.promote_types(x.dtype, torch.float32)),
        ).to(x.dtype)

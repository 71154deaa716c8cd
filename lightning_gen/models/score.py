"""The score of a noised density: what a model with one answers, and networks that are the score themselves."""

import math
from abc import ABC
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_gen.models.base import Model
from lightning_gen.process import Clean, Process, double, expand, instant
from lightning_gen.randomness import normal

QUANTITIES = ("score", "noise", "denoise", "velocity")


class Reading(NamedTuple):
    """Scalars on the host that turn an output F = net(c_in x, c_noise) at one time into quantities a x + b F.

    Args:
        t: time, in [0, 1].
        c_in: factor of x in the network's input.
        c_noise: the network's time.
        denoise: (a, b) of E[x_0 | x_t].
        noise: (a, b) of E[noise | x_t].
        score: (a, b) of the score.
        velocity: (a, b) of E[dx_t / dt | x_t].
    """

    t: float
    c_in: float
    c_noise: float
    denoise: tuple[float, float]
    noise: tuple[float, float]
    score: tuple[float, float]
    velocity: tuple[float, float]


class Scored(Model, ABC):
    """grad log p_t(x), with p_t the density of x_t = alpha_t x_0 + sigma_t noise, x real.

    A subclass defines one of score, noise, denoise, velocity; the others follow from it by the defaults below: score =
    -noise / sigma, noise = (x - alpha denoise) / sigma = -sigma score, denoise = (x + sigma^2 score) / alpha,
    velocity = alpha' denoise + sigma' noise = f x - g^2 score / 2, the slope of the probability-flow ODE in t.
    Tweedie's formula (Robbins, 1956; Efron, 2011), https://doi.org/10.1198/jasa.2011.tm11181

    Args:
        process: the noising process, with alpha and sigma.
    """

    title = "a score"

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process

    def field(self, net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        """net(x, t), like x; ValueError for an output of another shape, which would be broadcast."""
        output = self.call(net, x, t)
        if output.shape != x.shape:
            raise ValueError(
                f"{type(net).__name__}(x, t) has shape {tuple(output.shape)} for x of shape {tuple(x.shape)}, expected "
                "that of x: change what the network returns"
            )
        return output

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """grad log p_t(x), (B, ...); t is (B,) or ()."""
        return -self.noise(x, t) / expand(self.process.sigma(t), x)

    def noise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[noise | x_t = x], (B, ...)."""
        sigma = expand(self.process.sigma(t), x)
        if self.defined() == "score":  # by way of denoise a small sigma would lose digits
            return -sigma * self.score(x, t)
        if self.defined() == "velocity":
            return affine(self.velocity_factors(t)[1], x, self.velocity(x, t))
        return (x - expand(self.process.alpha(t), x) * self.denoise(x, t)) / sigma

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | x_t = x], (B, ...)."""
        if self.defined() == "velocity":  # the score is not finite at t = 0
            return affine(self.velocity_factors(t)[0], x, self.velocity(x, t))
        variance, alpha = self.process.variance(t), self.process.alpha(t)
        return (x + expand(variance, x) * self.score(x, t)) / expand(alpha, x)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """E[dx_t / dt | x_t = x], (B, ...), the slope of the probability-flow ODE in t."""
        t = double(t)
        if self.defined() == "score":
            drift, diffusion = self.process.sde(t)
            return affine((drift, -diffusion / 2), x, self.score(x, t))
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        alpha_rate, sigma_rate = self.process.rates(t)
        if self.defined() == "noise":  # x = alpha x_0 + sigma noise gives the other, without a second call
            return affine((alpha_rate / alpha, sigma_rate - sigma * alpha_rate / alpha), x, self.noise(x, t))
        return affine((sigma_rate / sigma, alpha_rate - alpha * sigma_rate / sigma), x, self.denoise(x, t))

    def velocity_factors(self, t: Tensor) -> "tuple[Factors, Factors]":
        """(a, b) of denoise and of noise as a x + b velocity, solved from x = alpha x_0 + sigma noise and its rate."""
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        alpha_rate, sigma_rate = self.process.rates(t)
        determinant = alpha * sigma_rate - alpha_rate * sigma
        return (
            (sigma_rate / determinant, -sigma / determinant),
            (-alpha_rate / determinant, alpha / determinant),
        )

    def readings(self, times: Sequence[float]) -> list[Reading]:
        """The scalars of `output` at each time, computed in float64 on the host, for the plan of a sampler."""
        t = torch.as_tensor(times, dtype=torch.float64)
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        one, none = torch.ones_like(t), torch.zeros_like(t)
        columns = t, one, self.process.network_time(t)
        match self.defined():  # denoise, noise, score and velocity, each (a, b), where F is the one that is defined
            case "score":
                drift, diffusion = self.process.sde(t)
                rows = (1 / alpha, sigma.square() / alpha), (none, -sigma), (none, one), (drift, -diffusion / 2)
            case "noise":
                rows = (1 / alpha, -sigma / alpha), (none, one)
            case "denoise":
                rows = (none, one), (1 / sigma, -alpha / sigma)
            case "velocity":
                rows = *self.velocity_factors(t), None, (none, one)
        return host_readings(self.process, *columns, *rows)

    def output(self, x: Tensor, reading: Reading) -> Tensor:
        """F at the time of a reading, (B, ...): by default the quantity that the subclass defines."""
        return getattr(self, self.defined())(x, instant(reading.t, x))

    @classmethod
    def defined(cls) -> str:
        """The first of QUANTITIES that the subclass overrides."""
        own = [vars(each) for each in cls.__mro__[: cls.__mro__.index(Scored)]]
        return next(name for name in QUANTITIES if any(name in each for each in own))

    def network_input(self, x: Tensor, reading: Reading) -> tuple[Tensor, Tensor]:
        """c_in x, (B, ...), and c_noise, (B,), not below single precision: bfloat16 would merge neighbouring times."""
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        t = torch.full((len(x),), reading.c_noise, device=x.device, dtype=dtype)
        return (x if reading.c_in == 1 else reading.c_in * x), t

    def prior(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """x ~ N(0, prior_sigma^2 I), the start of a reverse diffusion, (B, ...), on the generator's device."""
        return self.process.prior_sigma * normal(shape, generator)

    def log_prior(self, x: Tensor) -> Tensor:
        """Log-density of `prior`, nats, (B,)."""
        sigma = self.process.prior_sigma
        squares = (x / sigma).square().flatten(1).sum(1)
        return -0.5 * squares - x[0].numel() * math.log(sigma * math.sqrt(2 * math.pi))

    def why_no_prior(self) -> str | None:
        """Why there is no prior to start from; None where there is one."""
        return None if self.process.prior_sigma > 0 else "a model of data without noise has none"


Factors = tuple[Tensor, Tensor]  # (a, b) of a quantity a x + b F, each (B,) or ()


def host_readings(
    process: Process,
    t: Tensor,
    c_in: Tensor,
    c_noise: Tensor,
    denoise: Factors,
    noise: Factors,
    score: Factors | None = None,
    velocity: Factors | None = None,
) -> list[Reading]:
    """Readings from float64 columns, each (n,); score and velocity are by default those that follow from the others."""
    sigma = process.sigma(t)
    score = score or (-noise[0] / sigma, -noise[1] / sigma)
    velocity = velocity or velocity_of(process, t, denoise, noise)
    columns = [t, c_in, c_noise, *(column for row in (denoise, noise, score, velocity) for column in row)]
    return [
        Reading(*values[:3], values[3:5], values[5:7], values[7:9], values[9:])
        for values in zip(*(column.tolist() for column in columns), strict=True)
    ]


def has_velocity(process: Process) -> bool:
    """Whether alpha' and sigma' are finite at t = 0 and 1, and not all 0, so that d x_t / dt can be learnt."""
    rates = torch.stack(process.rates(torch.tensor([0.0, 1.0], dtype=torch.float64)))
    return bool(torch.isfinite(rates).all() and rates.any())


def velocity_of(process: Process, t: Tensor, denoise: Factors, noise: Factors) -> Factors:
    """Factors of the velocity alpha' x_0 + sigma' noise."""
    alpha_rate, sigma_rate = process.rates(t)
    return alpha_rate * denoise[0] + sigma_rate * noise[0], alpha_rate * denoise[1] + sigma_rate * noise[1]


def affine(factors: Factors, x: Tensor, y: Tensor) -> Tensor:
    """a x + b y for factors (a, b), each (B,) or (), (B, ...)."""
    return expand(factors[0], x) * x + expand(factors[1], x) * y


def combine(*terms: tuple[float, Tensor]) -> Tensor:
    """sum_i c_i x_i of terms (c_i, x_i), a new tensor like each x_i, in at most one operation a term; zero factors are
    skipped."""
    (factor, x), *others = [term for term in terms if term[0] != 0] or terms[:1]
    if factor == 1 and others:
        (other, y), *others = others
        total = torch.add(x, y, alpha=other)
    else:
        total = factor * x
    for factor, x in others:
        total.add_(x, alpha=factor)  # memory at hand: a new tensor takes longer than its sum
    return total


class ScoreNetwork(Scored):
    """A network whose output is the score: s_t(x) = net(x, time), for clean or noised data.

    Generative modeling by estimating gradients of the data distribution (Song & Ermon, 2019),
    https://arxiv.org/abs/1907.05600

    Args:
        net: the network (x, time), or (x, time, label), like x.
        process: the noising process; null for clean data.
    """

    unshardable = None

    def __init__(self, net: nn.Module, process: Process | None = None) -> None:
        super().__init__(Clean() if process is None else process)
        self.net = net

    def networks(self) -> list[nn.Module]:
        """The one network."""
        return [self.net]

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """net(x, network time), (B, ...)."""
        return self.field(self.net, x, self.process.network_time(t).to(x.dtype))

    def output(self, x: Tensor, reading: Reading) -> Tensor:
        """The score at the time of a reading, (B, ...)."""
        t = torch.full((len(x),), reading.c_noise, device=x.device, dtype=x.dtype)
        return self.field(self.net, x, t)

"""A model is the score of a noised density; noise, clean data and score are three readings of one thing (Tweedie)."""

import copy
import math
from abc import ABC
from typing import Self

import torch
from torch import Tensor, nn

from lightning_gen.process import Clean, Process, expand


class ScoreModel(nn.Module, ABC):
    """grad log p_t(x), with p_t the density of x_t = alpha_t x_0 + sigma_t noise.

    A subclass defines one of score, noise, denoise; each default below reads the next, so the other two follow:
    score = -noise / sigma, noise = (x - alpha denoise) / sigma, denoise = (x + sigma^2 score) / alpha.
    Tweedie's formula (Robbins, 1956; Efron, 2011).
    """

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        self.label: Tensor | None = None

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """grad log p_t(x), (B, ...); t is (B,) or ()."""
        return -self.noise(x, t) / expand(self.process.sigma(t), x)

    def noise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[noise | x_t = x], (B, ...)."""
        clean = expand(self.process.alpha(t), x) * self.denoise(x, t)
        return (x - clean) / expand(self.process.sigma(t), x)

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | x_t = x], (B, ...)."""
        variance, alpha = self.process.variance(t), self.process.alpha(t)
        return (x + expand(variance, x) * self.score(x, t)) / expand(alpha, x)

    def prior(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Where a reverse diffusion starts: N(0, prior_sigma^2 I), (B, ...), on the generator's device."""
        device = generator.device if generator is not None else None
        return self.process.prior_sigma * torch.randn(shape, generator=generator, device=device)

    def log_prior(self, x: Tensor) -> Tensor:
        """Log-density of `prior`, nats, (B,)."""
        sigma = self.process.prior_sigma
        squares = (x / sigma).square().flatten(1).sum(1)
        return -0.5 * squares - x[0].numel() * math.log(sigma * math.sqrt(2 * math.pi))

    def given(self, label: Tensor) -> Self:
        """This model with labels (B,) bound to it; weights are shared. Losses and samplers know no labels."""
        bound = copy.copy(self)
        bound.label = label
        return bound

    def call(self, net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        """net(x, t), or net(x, t, label) when a label is bound; t is spread to (B,)."""
        t = t.expand(len(x))
        return net(x, t) if self.label is None else net(x, t, self.label)


class ScoreNetwork(ScoreModel):
    """A network that is the score itself: s(x) = net(x, t), of clean data or of noised."""

    def __init__(self, net: nn.Module, process: Process | None = None) -> None:
        super().__init__(Clean() if process is None else process)
        self.net = net

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """net(x, network time), (B, ...)."""
        return self.call(self.net, x, self.process.network_time(t).to(x.dtype))

    def noise(self, x: Tensor, t: Tensor) -> Tensor:
        """-sigma score, (B, ...): through denoise the digits of a small sigma would be lost."""
        return -expand(self.process.sigma(t), x) * self.score(x, t)


def double(t: Tensor) -> Tensor:
    """t in float64 where the device has it: coefficients cancel, and sigma is small."""
    return t.float() if t.device.type == "mps" else t.double()


def instant(t: float, x: Tensor) -> Tensor:
    """The time t for each sample of x, (B,), made on its device without a copy from the host."""
    return torch.full((len(x),), t, device=x.device, dtype=torch.float32 if x.device.type == "mps" else torch.float64)

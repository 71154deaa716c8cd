"""The base of networks for autoregressive models, and the laws of a value over the levels 0..K - 1 that they give."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_gen.options import Checked, Count, Levels, Shape

LOG_SCALE = -7.0  # least log s of a logistic, in units where the levels lie in [-1, 1]: PixelCNN++'s


def scaled(x: Tensor, levels: int) -> Tensor:
    """Levels as numbers of order 1, like x: 0 and 1 as they are, more of them in [-1, 1]."""
    return x if levels == 2 else 2 * x / (levels - 1) - 1


class Categorical:
    """p(x = k) = softmax(a)_k, or sigmoid(a)_1 with one number for two levels.

    Args:
        levels: K.
    """

    def __init__(self, levels: int) -> None:
        self.levels, self.size = levels, 1 if levels == 2 else levels

    def table(self, a: Tensor, earlier: Tensor | None = None) -> Tensor:
        """log p of each level, (..., K), by the outputs a, (..., size)."""
        return F.logsigmoid(torch.cat([-a, a], dim=-1)) if self.levels == 2 else a.log_softmax(-1)

    def cumulative(self, a: Tensor, earlier: Tensor | None = None) -> Tensor:
        """P(x <= k) for k = 0, ..., K - 2, (..., K - 1), by the outputs a, (..., size)."""
        return self.table(a).exp().cumsum(-1)[..., :-1]

    def log_prob(self, a: Tensor, x: Tensor) -> Tensor:
        """log p of the values x (..., 1), nats, like x."""
        return self.table(a).gather(-1, x.long())


class LogisticMixture:
    """P(x) = sum_k pi_k [sigmoid((x + 1/2 - mu_k) / s_k) - sigmoid((x - 1/2 - mu_k) / s_k)], the edges with the tails.

    Of the values of one pixel the mean of each is linear in those before, and the component is the same: green
    depends on red, blue on both. PixelCNN++ (Salimans et al., 2017), https://arxiv.org/abs/1701.05517

    Args:
        levels: K.
        components: of the mixture, >= 1.
        joint: C, values of one pixel.
    """

    def __init__(self, levels: int, components: int, joint: int = 1) -> None:
        self.levels, self.components, self.joint = levels, components, joint
        self.size = components * (1 + 2 * joint + joint * (joint - 1) // 2)

    def parts(self, a: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """log pi (..., M), means and log scales (..., C, M), coefficients (..., C (C - 1) / 2, M)."""
        a = a.unflatten(-1, (-1, self.components))
        weights, means, scales, coefficients = a.split(
            [1, self.joint, self.joint, a.shape[-2] - 1 - 2 * self.joint], -2
        )
        return weights.squeeze(-2).log_softmax(-1), means, scales.clamp(min=LOG_SCALE), coefficients.tanh()

    def mean(self, means: Tensor, coefficients: Tensor, x: Tensor, channel: int) -> Tensor:
        """The means of a channel, (..., M), given the values x (..., >= channel) before it."""
        if not channel:
            return means[..., 0, :]
        first, u = channel * (channel - 1) // 2, (2 * x / (self.levels - 1) - 1).unsqueeze(-1)
        earlier = coefficients[..., first : first + channel, :] * u[..., :channel, :]
        return means[..., channel, :] + earlier.sum(-2)

    def log_bins(self, mean: Tensor, log_scale: Tensor, x: Tensor) -> Tensor:
        """log P(x) by each component, (..., M), of values x, (...) or to be expanded to it."""
        half, u = 1 / (self.levels - 1), (2 * x / (self.levels - 1) - 1).unsqueeze(-1)
        rate = (-log_scale).exp()
        centre, edge = (u - mean) * rate, half * rate
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)): no difference of near numbers.
        upper, lower = F.logsigmoid(centre + edge), F.logsigmoid(edge - centre)
        inside = upper + lower + (-torch.expm1(-2 * edge)).log()
        x = x.unsqueeze(-1)
        return torch.where(x == 0, upper, torch.where(x == self.levels - 1, lower, inside))

    def conditional(self, a: Tensor, earlier: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log pi, mean and log scale, (..., M) each, of the value after `earlier` (..., c) of its pixel."""
        log_weights, means, scales, coefficients = self.parts(a)
        channel = earlier.shape[-1]
        for c in range(channel):
            mean = self.mean(means, coefficients, earlier, c)
            log_weights = (log_weights + self.log_bins(mean, scales[..., c, :], earlier[..., c])).log_softmax(-1)
        return log_weights, self.mean(means, coefficients, earlier, channel), scales[..., channel, :]

    def table(self, a: Tensor, earlier: Tensor) -> Tensor:
        """log p of each level of the value after `earlier` (..., c) of its pixel, (..., K), by outputs (..., size)."""
        log_weights, mean, log_scale = (part.unsqueeze(-2) for part in self.conditional(a, earlier))
        levels = torch.arange(self.levels, device=a.device, dtype=a.dtype)
        return (log_weights + self.log_bins(mean, log_scale, levels)).logsumexp(-1)

    def cumulative(self, a: Tensor, earlier: Tensor) -> Tensor:
        """P(x <= k) for k = 0, ..., K - 2 of the same value, (..., K - 1)."""
        log_weights, mean, log_scale = (part.unsqueeze(-2) for part in self.conditional(a, earlier))
        edges = (2 * torch.arange(self.levels - 1, device=a.device, dtype=a.dtype) + 1) / (self.levels - 1) - 1
        return (log_weights.exp() * ((edges.unsqueeze(-1) - mean) * (-log_scale).exp()).sigmoid()).sum(-1)

    def log_prob(self, a: Tensor, x: Tensor) -> Tensor:
        """log p of each of the values x (..., C) of a pixel given those before, nats, like x."""
        log_weights, means, scales, coefficients = self.parts(a)
        total, logs = log_weights, []
        for c in range(self.joint):
            mean = self.mean(means, coefficients, x, c)
            total = total + self.log_bins(mean, scales[..., c, :], x[..., c])
            logs.append(total.logsumexp(-1))
        logs = torch.stack(logs, dim=-1)
        return logs - F.pad(logs[..., :-1], (1, 0))


class Causal(Checked, nn.Module, ABC):
    """The base: outputs at each site, from which the law of its values is made, by the values of sites before alone.

    x is a sequence of D values, pixel by pixel and in a pixel channel by channel; a site has one value, or the
    `joint` ones of a pixel. `begin` and `step` give the same outputs site by site, for sampling.

    Args:
        shape: of one x, (C, H, W) or (D,).
        levels: K, the number of values that each of x may have.
        logistics: components of a mixture of logistics over the levels; null for a softmax.
        joint: values of a site.
    """

    classes = None
    orderings = 1

    def __init__(self, shape: Shape, levels: Levels = 2, logistics: Count | None = None, joint: Count = 1) -> None:
        super().__init__()
        self.shape, self.levels, self.joint = tuple(shape), levels, joint
        self.sites = math.prod(self.shape) // joint
        self.law = Categorical(levels) if logistics is None else LogisticMixture(levels, logistics, joint)

    def order(self, ordering: int) -> list[int]:
        """The sites in the order in which an ordering fills them."""
        return list(range(self.sites))

    @abstractmethod
    def forward(self, x: Tensor, ordering: int = 0) -> Tensor:
        """Outputs at all sites, (B, sites, size), of sequences x (B, D)."""

    @abstractmethod
    def begin(self, x: Tensor, ordering: int = 0) -> Any:
        """What sampling computes once and keeps, for sequences like x (B, D) with no site filled."""

    @abstractmethod
    def step(self, cache: Any, x: Tensor, k: int) -> Tensor:
        """Outputs at the k-th site of the order, (B, size), of x (B, D) whose sites before are filled.

        Called for k = 0, 1, ... in turn; only what the last filled site changes is computed.
        """

"""Restricted Boltzmann machines as recipes: contrastive divergence of a binary, or of a Gaussian-Bernoulli RBM."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt, Le
from torch import Tensor

from lightning_gen import models
from lightning_gen.families.chains import Chains
from lightning_gen.likelihood import floored
from lightning_gen.losses import RBMContrastiveDivergence
from lightning_gen.options import Count, NonNegative, Positive, UnitInterval
from lightning_gen.samplers import Gibbs, Sampler


class RBMBase(Chains):
    """What both RBMs share: a representation."""

    def transform(self, v: Tensor) -> Tensor:
        """The representation p(h=1|v) by the averaged model, (B, hidden), of data v (B, *shape)."""
        return self.averaged.hidden(v)

    def reconstruct(self, v: Tensor) -> Tensor:
        """E[v|h] at h = `transform` of v, by the averaged model, (B, *shape)."""
        return self.averaged.visible(self.transform(v))


class RBM(RBMBase):
    """A binary RBM of `hidden` units by CD-k, modified CD or persistent CD (`start` data, noise, persistent).

    Data are 0 or 1: data.binarise. visible_bias `data` starts b at log p / (1 - p) of the training data's means
    (Hinton, 2012, section 8). `options` are GenerativeModule's.
    Training products of experts (Hinton, 2002), https://doi.org/10.1162/089976602760128018
    """

    def __init__(
        self,
        optimizer: Callable,
        shape: Sequence[int],
        hidden: Count = 500,
        k: Count = 1,
        start: Literal["data", "noise", "persistent"] = "data",
        chains: Count | None = None,
        restart: UnitInterval = 0.0,
        centred: bool = False,
        shift: Annotated[float, Gt(0), Le(1)] = 0.01,
        weight_decay: NonNegative = 0.0,
        limit: Positive | None = 1000.0,
        visible_bias: Literal["data", "zero"] = "data",
        std: Positive = 0.01,
        **options: Any,
    ) -> None:
        model = models.RBM(shape, hidden, std, centred, shift)
        loss = RBMContrastiveDivergence(Gibbs(k), start, chains, restart, weight_decay, limit=limit)
        super().__init__(model=model, loss=loss, optimizer=optimizer, shape=shape, **options)
        self.visible_bias = visible_bias

    @torch.no_grad()
    def initialise(self, data: Any) -> None:
        """Set visible biases and offsets from the means of the training data."""
        mean = means(data)[0]
        if self.visible_bias == "data":
            self.model.b.copy_(torch.logit(mean.clamp(0.01, 0.99)))
        if self.model.centred:
            self.model.offset_v.copy_(mean)


class GaussianBernoulliRBM(RBMBase):
    """An RBM with real visible units of learned variance, by contrastive divergence along `chain` (null: Gibbs(k)).

    Data should be standardised: data.value_range of mean 0 and variance 1. mu starts at the data's means, the variance
    at `variance`, or, where that is `data`, at each unit's own variance in the data, at least 1e-2 of the largest. With
    `jitter` the density is that of data with Gaussian noise of this deviation: a unit that never changes has none of
    its own, and its variance would fall for ever. The logarithms of the variances are learned at `variance_rate` times
    the optimizer's rate: units whose scale has to change by much would wait for it. `options` are GenerativeModule's.
    Gaussian-Bernoulli RBMs without tears (Liao et al., 2022), https://arxiv.org/abs/2210.10318
    """

    def __init__(
        self,
        optimizer: Callable,
        shape: Sequence[int],
        hidden: Count = 500,
        k: Count = 1,
        chain: Sampler | None = None,
        start: Literal["data", "noise", "persistent"] = "data",
        chains: Count | None = None,
        restart: UnitInterval = 0.0,
        weight_decay: NonNegative = 0.0,
        limit: Positive | None = 1000.0,
        jitter: NonNegative = 0.0,
        variance: Positive | Literal["data"] = 1.0,
        learn_variance: bool = True,
        variance_rate: Positive = 1.0,
        std: Positive = 0.01,
        **options: Any,
    ) -> None:
        first = 1.0 if variance == "data" else variance
        model = models.GaussianBernoulliRBM(shape, hidden, std, first, learn_variance)
        sampler = Gibbs(k) if chain is None else chain
        loss = RBMContrastiveDivergence(sampler, start, chains, restart, weight_decay, jitter, limit)
        grouped = partial(with_own_rate, optimizer, model, variance_rate)
        super().__init__(model=model, loss=loss, optimizer=grouped, shape=shape, **options)
        self.variance = variance

    @torch.no_grad()
    def initialise(self, data: Any) -> None:
        """Set mu, and the variance if it is to be, from the training data."""
        mean, variance = means(data)
        self.model.mu.copy_(mean)
        if self.variance == "data":
            variance = floored(variance + self.loss.jitter**2)
            self.model.log_variance.copy_(variance.log())


def with_own_rate(
    make: Callable, model: models.GaussianBernoulliRBM, rate: float, parameters: Iterable[Tensor]
) -> torch.optim.Optimizer:
    """`make` over the parameters, log_variance in a group of its own with `rate` times the learning rate."""
    others = [parameter for parameter in parameters if parameter is not model.log_variance]
    optimizer = make([{"params": others}, {"params": [model.log_variance]}])
    optimizer.param_groups[-1]["lr"] *= rate
    return optimizer


def means(data: Any) -> tuple[Tensor, Tensor]:
    """Mean and variance of every visible unit over the training split in model space, float64, (D,) each."""
    split, total, squares = data.split("train"), 0.0, 0.0
    for start in range(0, len(split), 4096):
        rows = data.encode(split.take(slice(start, start + 4096))).flatten(1).double()
        total, squares = total + rows.sum(0), squares + rows.square().sum(0)
    mean = total / len(split)
    return mean, squares / len(split) - mean.square()

"""Restricted Boltzmann machines, binary and Gaussian-Bernoulli, trained by contrastive divergence."""

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
    """Base of both RBMs: codes and reconstructions."""

    def transform(self, v: Tensor) -> Tensor:
        """p(h=1|v) by the averaged model, (B, hidden), for data v (B, *shape)."""
        return self.averaged.hidden(v)

    def reconstruct(self, v: Tensor) -> Tensor:
        """E[v|h] at h = p(h=1|v), by the averaged model, (B, *shape)."""
        return self.averaged.visible(self.transform(v))


class RBM(RBMBase):
    """p(v, h) ~ exp(v^T W h + b^T v + c^T h), v and h in {0, 1}, trained by contrastive divergence.

    Training products of experts (Hinton, 2002), https://doi.org/10.1162/089976602760128018

    Args:
        shape: shape of v, without the batch.
        hidden: number of hidden units, >= 1.
        k: Gibbs sweeps per update, >= 1.
        start: start of the chains: data (CD), noise (modified CD) or persistent (PCD).
        chains: number of persistent chains over all ranks; null for the batch size.
        restart: probability that a persistent chain restarts, in [0, 1].
        centred: whether to centre the units by their running means (Montavon & Mueller, 2012).
        shift: rate of the running means, in (0, 1].
        weight_decay: factor of W in its gradient, >= 0.
        limit: largest energy difference of chains from the data, nats per dimension, > 0; null for none.
        visible_bias: initial b: data, log(p / (1 - p)) of the data's means p (Hinton, 2012, section 8), or zero.
        std: standard deviation of the initial W, > 0.
        optimizer, options: those of GenerativeModule.
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
        loss = RBMContrastiveDivergence(
            Gibbs(k), start, chains=chains, restart=restart, weight_decay=weight_decay, limit=limit
        )
        super().__init__(model=model, loss=loss, optimizer=optimizer, shape=shape, **options)
        self.visible_bias = visible_bias

    @torch.no_grad()
    def initialise(self, data: Any) -> None:
        """Set visible biases and offsets from the means of the training data."""
        mean = data_moments(data)[0]
        if self.visible_bias == "data":
            self.model.b.copy_(torch.logit(mean.clamp(0.01, 0.99)))
        if self.model.centred:
            self.model.offset_v.copy_(mean)


class GaussianBernoulliRBM(RBMBase):
    """p(v, h) ~ exp(-1/2 ||(v - mu)/sigma||^2 + (v/sigma^2)^T W h + c^T h), v real, h in {0, 1}, trained by CD.

    mu is initialised by the data's means. Data should be standardised, by data.value_range.
    Gaussian-Bernoulli RBMs without tears (Liao et al., 2022), https://arxiv.org/abs/2210.10318

    Args:
        shape: shape of v, without the batch.
        hidden: number of hidden units, >= 1.
        k: Gibbs sweeps per update, >= 1, where chain is null.
        chain: sampler of the chains; null for Gibbs(k).
        start: start of the chains: data (CD), noise (modified CD) or persistent (PCD).
        chains: number of persistent chains over all ranks; null for the batch size.
        restart: probability that a persistent chain restarts, in [0, 1].
        weight_decay: factor of W in its gradient, >= 0.
        limit: largest energy difference of chains from the data, nats per dimension, > 0; null for none.
        jitter: standard deviation of Gaussian noise added to the data, in units of the data, >= 0: without it the
            variance of a unit that is constant in the data decreases to 0.
        variance: initial sigma^2, > 0; or data, each unit's variance in the data, at least 1e-2 of the largest.
        learn_variance: whether to learn sigma^2.
        variance_rate: learning rate of log sigma^2 relative to the optimizer's, > 0.
        std: standard deviation of the initial W, > 0.
        optimizer, options: those of GenerativeModule.
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
        initial = 1.0 if variance == "data" else variance
        model = models.GaussianBernoulliRBM(shape, hidden, std, initial, learn_variance)
        sampler = Gibbs(k) if chain is None else chain
        loss = RBMContrastiveDivergence(
            sampler, start, chains=chains, restart=restart, weight_decay=weight_decay, jitter=jitter, limit=limit
        )
        grouped = partial(optimizer_with_variance_rate, optimizer, model, variance_rate)
        super().__init__(model=model, loss=loss, optimizer=grouped, shape=shape, **options)
        self.variance = variance

    @torch.no_grad()
    def initialise(self, data: Any) -> None:
        """Set mu, and with variance `data` the variances, from the training data."""
        mean, variance = data_moments(data)
        self.model.mu.copy_(mean)
        if self.variance == "data":
            variance = floored(variance + self.loss.jitter**2)
            self.model.log_variance.copy_(variance.log())


def optimizer_with_variance_rate(
    make: Callable, model: models.GaussianBernoulliRBM, rate: float, parameters: Iterable[Tensor]
) -> torch.optim.Optimizer:
    """Optimizer of the parameters, with log_variance in a second group of `rate` times the learning rate."""
    others = [parameter for parameter in parameters if parameter is not model.log_variance]
    optimizer = make([{"params": others}, {"params": [model.log_variance]}])
    optimizer.param_groups[-1]["lr"] *= rate
    return optimizer


def data_moments(data: Any) -> tuple[Tensor, Tensor]:
    """Mean and variance of every visible unit over the training split in model space, float64, (D,) each."""
    split, total, squares = data.split("train"), 0.0, 0.0
    for start in range(0, len(split), 4096):
        rows = data.encode(split.take(slice(start, start + 4096))).flatten(1).double()
        total, squares = total + rows.sum(0), squares + rows.square().sum(0)
    mean = total / len(split)
    return mean, squares / len(split) - mean.square()

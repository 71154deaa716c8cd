"""Proposals q(z|x) of importance sampling: the prior, the encoder, and a flow learned on simulated data."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from lightning_gen.models import Encoded, Flow, Normalised, ObservationModel, Requires
from lightning_gen.nets import RealNVP
from lightning_gen.options import ARGUMENTS, Checked, Count, Positive

LOG_2PI = math.log(2 * math.pi)


def log_normal(u: Tensor) -> Tensor:
    """log N(u; 0, I), nats, (B,), of u (B, L)."""
    return -0.5 * u.square().sum(1) - 0.5 * u.shape[1] * LOG_2PI


class Proposal(Checked, Requires, ABC):
    """A distribution q(z|x) to draw from, with its density."""

    role = "proposal"
    method: str  # what the estimate by it is called

    def fit(self, model: ObservationModel, generator: torch.Generator, progress: Callable | None = None) -> Self:
        """The proposal, learned for the model where there is something to learn."""
        return self

    def ticks(self) -> int:
        """Number of calls of `progress` by `fit`."""
        return 0

    def describe(self) -> dict[str, Any]:
        """Name and options, as a protocol stores them."""
        return {"name": type(self).__name__, **{k: v for k, v in vars(self).items() if k not in ("flow", ARGUMENTS)}}

    @abstractmethod
    def statistics(self, model: ObservationModel, x: Tensor) -> tuple[Tensor, ...]:
        """What q depends on of x, each (B, ...)."""

    @abstractmethod
    def draw(self, model: ObservationModel, x: Tensor, generator: Any, *statistics: Tensor) -> tuple[Tensor, Tensor]:
        """z ~ q(z|x), (B, L), and log q(z|x), nats, (B,)."""


class PriorProposal(Proposal):
    """q(z|x) = p(z): likelihood weighting, whose effective sample size falls as the posterior narrows.

    Weighing and integrating evidence for stochastic simulation in Bayesian networks (Fung & Chang, 1990),
    https://arxiv.org/abs/1304.1504
    """

    needs = (ObservationModel,)
    method = "likelihood_weighting"

    def statistics(self, model: ObservationModel, x: Tensor) -> tuple[Tensor, ...]:
        """None."""
        return ()

    def draw(self, model: ObservationModel, x: Tensor, generator: Any, *statistics: Tensor) -> tuple[Tensor, Tensor]:
        """z ~ N(0, I), (B, L), and its log-density, nats, (B,)."""
        z = torch.randn(len(x), model.latent, generator=generator, device=x.device, dtype=x.dtype)
        return z, log_normal(z)


class EncoderProposal(Proposal):
    """q(z|x) = N(mu(x), diag sigma^2(x)) of the encoder.

    Importance weighted autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
    """

    needs = (Encoded,)
    method = "iwae"

    def statistics(self, model: Encoded, x: Tensor) -> tuple[Tensor, ...]:
        """mu(x) and log sigma^2(x), (B, L) each."""
        return model.posterior(x)

    def draw(self, model: Encoded, x: Tensor, generator: Any, *statistics: Tensor) -> tuple[Tensor, Tensor]:
        """z, (B, L), and log q(z|x), nats, (B,)."""
        mean, log_variance = statistics
        z = model.sample_posterior(mean, log_variance, generator)
        return z, log_normal((z - mean) * (-0.5 * log_variance).exp()) - 0.5 * log_variance.sum(1)


class FlowProposal(EncoderProposal):
    """z = mu(x) + sigma(x) u, u ~ q(u) of a RealNVP in place of N(0, I), by maximum likelihood on simulated pairs.

    Of a pair z ~ p(z), x ~ p(x|z) is z ~ p(z|x), so that E log q(z|x) is greatest where E KL(p(z|x) || q(z|x)) is
    least: q covers the posterior. One q(u) serves all x.
    Inference compilation (Le et al., 2017), https://arxiv.org/abs/1610.09900

    Args:
        steps: of Adam, >= 1.
        batch: simulated pairs of a step, >= 1.
        lr: its rate, > 0, which falls to 0 by a cosine.
        width: units of a coupling's layers.
        couplings: their number.
    """

    method = "flow_proposal"

    def __init__(
        self, steps: Count = 1000, batch: Count = 256, lr: Positive = 2e-3, width: Count = 64, couplings: Count = 4
    ) -> None:
        self.steps, self.batch, self.lr, self.width, self.couplings = steps, batch, lr, width, couplings
        self.flow: Normalised | None = None

    def ticks(self) -> int:
        """The steps."""
        return self.steps

    def fit(self, model: Encoded, generator: torch.Generator, progress: Callable | None = None) -> Self:
        """A copy with a flow for this model."""
        self.check(model)
        fitted = type(self)(self.steps, self.batch, self.lr, self.width, self.couplings)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(generator.initial_seed())
            net = RealNVP((model.latent,), self.width, couplings=self.couplings)
            first = self.pairs(model, 2 * self.batch, generator)
            flow = Flow(net.to(first))
            flow.initialise(first)
            optimizer = torch.optim.Adam(flow.parameters(), self.lr)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
            for _ in range(self.steps):
                optimizer.zero_grad()
                (-flow.log_prob(self.pairs(model, self.batch, generator)).mean()).backward()
                optimizer.step()
                schedule.step()
                if progress is not None:
                    progress()
        fitted.flow = flow.requires_grad_(False).eval()
        return fitted

    @torch.no_grad()
    def pairs(self, model: Encoded, n: int, generator: torch.Generator) -> Tensor:
        """u = (z - mu(x)) / sigma(x) of n simulated pairs, (n, L)."""
        x, z = model.simulate(n, generator)
        mean, log_variance = model.posterior(x)
        return (z - mean) * (-0.5 * log_variance).exp()

    def draw(self, model: Encoded, x: Tensor, generator: Any, *statistics: Tensor) -> tuple[Tensor, Tensor]:
        """z, (B, L), and log q(z|x), nats, (B,); ValueError before `fit`."""
        if self.flow is None:
            raise ValueError("FlowProposal has no flow yet, expected a fitted one: call fit first")
        mean, log_variance = statistics
        u = self.flow.draw(tuple(mean.shape), generator)
        return mean + (0.5 * log_variance).exp() * u, self.flow.log_prob(u) - 0.5 * log_variance.sum(1)

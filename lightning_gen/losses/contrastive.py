"""Contrastive divergence: lower the energy of the data, raise the energy of samples from short Markov chains."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_gen.losses.base import Loss
from lightning_gen.models import Energy, HiddenUnits
from lightning_gen.options import Count, NonNegative, Positive, UnitInterval
from lightning_gen.randomness import noise_like
from lightning_gen.samplers import Sampler


class ClosedFormGradient(torch.autograd.Function):
    """A value with closed-form gradients in the parameters."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Callable[[Tensor], list[Tensor]], *parameters: Tensor) -> Tensor:
        """`value`, (B,); `gradients(grad)` returns those of sum_i grad_i value_i, one for each parameter."""
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        """Gradients by the chain rule, one for each argument of forward."""
        return None, None, *ctx.gradients(grad)


class ContrastiveDivergence(Loss):
    """E(x) - E(x_k), x_k the state of a Markov chain after k transitions, through which no gradient flows.

    Training products of experts (Hinton, 2002), https://doi.org/10.1162/089976602760128018;
    persistent chains (Tieleman, 2008), https://doi.org/10.1145/1390156.1390290;
    replay buffer of IGEBM (Du & Mordatch, 2019), https://arxiv.org/abs/1903.08689

    Args:
        sampler: the chain's transitions; k is its number of steps.
        start: start of the chains: data (CD), noise (the sampler's start distribution; modified CD), or persistent:
            the states after the previous batches (PCD).
        chains: number of persistent chains over all ranks, at least the global batch size; each batch advances as many
            as it has samples, drawn at random, in training only; null for the batch size.
        restart: probability that a persistent chain restarts from the sampler's start distribution, in [0, 1].
        l2: factor of the penalty E(x)^2 + E(x_k)^2, >= 0.
        jitter: standard deviation of Gaussian noise added to the data, in units of the data, >= 0; the model then
            learns the density of the noisy data.
        limit: largest |E(x_k) - mean E(x)| in training, nats per dimension, > 0, above which the run stops: the chains
            have diverged; null for none.
    """

    needs = (Energy,)

    def __init__(
        self,
        sampler: Sampler,
        start: Literal["data", "noise", "persistent"] = "data",
        chains: Count | None = None,
        restart: UnitInterval = 0.0,
        l2: NonNegative = 0.0,
        jitter: NonNegative = 0.0,
        limit: Positive | None = 1000.0,
    ) -> None:
        super().__init__()
        if start != "persistent" and (chains is not None or restart):
            raise ValueError(
                f"loss.chains is {chains} and loss.restart {restart} with start {start}, expected null and 0: "
                "write start persistent"
            )
        self.sampler, self.start, self.count, self.restart = sampler, start, chains, restart
        self.l2, self.jitter, self.limit = l2, jitter, limit
        self.chains = None  # not a buffer, or DDP would broadcast those of rank 0
        self.last_batch: dict[str, Tensor] = {}  # energies and chains of the last training batch, for callbacks

    def forward(self, model: Energy, x: Tensor, generator: torch.Generator) -> Tensor:
        """E(x_i) - mean E(x_k), plus the l2 penalty, nats, (B,)."""
        x = self.jittered(x, generator)
        with torch.no_grad():
            reached, carry = self.run_chains(model, self.start_states(model, x, generator), None, generator)
        energies = model.energy(torch.cat([x, reached]))
        data, chains = energies[: len(x)], energies[len(x) :]
        self.record(data, chains, reached, carry)
        loss = data - chains.mean()
        return loss + self.l2 * (data.square() + chains.square().mean()) if self.l2 else loss

    def jittered(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x with Gaussian noise of standard deviation `jitter`, (B, ...)."""
        if not self.jitter:
            return x
        return x + self.jitter * noise_like(x, generator)

    def check(self, model: Energy) -> None:
        """TypeError or ValueError for a model without an energy, or one that the sampler does not support."""
        super().check(model)
        self.sampler.check(model)

    def start_states(self, model: Energy, x: Tensor, generator: torch.Generator) -> Tensor:
        """Initial states of this batch's chains, (b, ...)."""
        if self.start == "data":
            return x
        if self.start == "noise" or (self.chains is None and not self.training):
            return self.sampler.start(model, tuple(x.shape), generator).to(x.dtype)
        if self.chains is None:
            count = self.chains_per_rank(len(x))
            self.chains = self.sampler.start(model, (count, *x.shape[1:]), generator).to(x.dtype)
        self.chains = self.chains.to(x.device)
        self.chosen = torch.randperm(len(self.chains), generator=generator, device=x.device)[: len(x)]
        start = self.chains[self.chosen]
        if self.restart:
            fresh = self.sampler.start(model, tuple(start.shape), generator).to(x.dtype)
            restarts = torch.rand(len(start), generator=generator, device=x.device) < self.restart
            start = torch.where(restarts.reshape(-1, *[1] * (x.ndim - 1)), fresh, start)
        return start

    def chains_per_rank(self, batch: int) -> int:
        """Number of persistent chains of a rank; ValueError where they are fewer than a batch, or differ by rank."""
        world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        count = batch if self.count is None else self.count // world
        if count < batch or (self.count or 0) % world:
            raise ValueError(
                f"loss.chains is {self.count} on {world} ranks with {batch} samples each, expected a multiple of "
                f"{world}, at least {batch * world}: write that, or null"
            )
        return count

    def run_chains(self, model: Energy, x: Tensor, carry: Any, generator: torch.Generator) -> tuple[Tensor, Any]:
        """States after the sampler's transitions from x, (b, ...), and its carry; persistent chains move to them."""
        for transition in self.sampler.plan(model, tuple(x.shape)):
            x, carry = self.sampler.step(model, x, transition, carry, generator)
        if self.start == "persistent" and self.training:
            self.chains[self.chosen] = x
        return x, carry

    def record(self, data: Tensor, chains: Tensor, reached: Tensor, carry: Any) -> None:
        """Store energies and chains of a training batch, and the largest deviation in energy, on the device."""
        if self.training:
            self.deviated(chains - data.mean(), reached[0].numel())
            self.last_batch = {"data": data.detach(), "chains": chains.detach(), "reached": reached}
            acceptance = self.sampler.acceptance(carry)
            if acceptance is not None:
                self.last_batch["acceptance"] = acceptance


class RBMContrastiveDivergence(ContrastiveDivergence):
    """Contrastive divergence of RBMs: E is the free energy, its gradient is in closed form, plus weight_decay W.

    CD-1 costs five matrix products.
    Training products of experts (Hinton, 2002), https://doi.org/10.1162/089976602760128018

    Args:
        sampler, start: those of ContrastiveDivergence.
        weight_decay: factor of W in its gradient, >= 0.
        options: chains, restart, jitter and limit of ContrastiveDivergence.
    """

    needs = (HiddenUnits,)

    def __init__(
        self,
        sampler: Sampler,
        start: Literal["data", "noise", "persistent"] = "data",
        *,
        weight_decay: NonNegative = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(sampler, start, l2=0.0, **options)
        self.weight_decay = weight_decay

    @torch.no_grad()
    def forward(self, model: HiddenUnits, x: Tensor, generator: torch.Generator) -> Tensor:
        """F(x_i) - mean F(x_k), nats, (B,)."""
        # Half precision would lose draws of small probability, and persistent chains have the data's dtype.
        with torch.autocast(x.device.type, enabled=False):
            return self.closed_form(model, self.jittered(x, generator), generator)

    def closed_form(self, model: HiddenUnits, v: Tensor, generator: torch.Generator) -> Tensor:
        """The loss, nats, (B,), with the gradient of `model.gradient`."""
        logits = model.logits(v)
        carry = logits if self.start == "data" and self.sampler.carries_logits else None
        reached, carry = self.run_chains(model, self.start_states(model, v, generator), carry, generator)
        last = carry if self.sampler.carries_logits else model.logits(reached)
        rows, all_logits = torch.cat([v, reached]), torch.cat([logits, last])
        data, chains = model.free_energy(rows, all_logits).split([len(v), len(reached)])
        self.record(data, chains, reached, carry)
        value = data - chains.mean()
        if not self.training:
            return value
        if model.centred:
            model.update_offsets(v, logits.sigmoid())
        parameters = {name: p for name in model.names if (p := getattr(model, name)).requires_grad}

        def gradients(grad: Tensor) -> list[Tensor]:
            total = grad.sum()
            by_name = model.gradient(rows, all_logits, torch.cat([grad, (-total / len(reached)).expand(len(reached))]))
            if self.weight_decay:
                by_name["W"] = by_name["W"] + total * self.weight_decay * model.W.detach()
            return [by_name[name] for name in parameters]

        with torch.enable_grad():
            return ClosedFormGradient.apply(value, gradients, *parameters.values())

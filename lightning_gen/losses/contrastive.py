"""Contrastive divergence: data are pulled down in energy, and what a short chain reaches is pushed up."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_gen.losses.base import Loss
from lightning_gen.models import Energy, HiddenUnits
from lightning_gen.options import Count, NonNegative, Positive, UnitInterval
from lightning_gen.samplers import Sampler


class KnownGradient(torch.autograd.Function):
    """A value whose gradients are known in closed form: backward asks for them, scaled as its mean is."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Callable[[Tensor], list[Tensor]], *parameters: Tensor) -> Tensor:
        """`value` (B,); `gradients` gives scale times those of its mean, one for each parameter."""
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        """The gradients of what the value became part of."""
        return None, None, *ctx.gradients(grad.sum())


class ContrastiveDivergence(Loss):
    """E(x) - E(x_k) with x_k the end of a chain of `sampler`'s steps, through which no gradient runs.

    start: `data` (CD, Hinton, 2002), `noise` (the sampler's own start; modified CD), or `persistent`: chains are kept
    from batch to batch (PCD, Tieleman, 2008). Each batch moves as many of the `chains` of all ranks as it has samples
    (null: just so many are kept), drawn at random, after each is sent back to the sampler's start with probability
    `restart`: with many chains that is the replay buffer of IGEBM (Du & Mordatch, 2019).
    `l2` adds l2 (E(x)^2 + E(x_k)^2). `jitter` is the deviation of Gaussian noise added to the data, whose
    density is then learned with it. Out of training no chain that is kept moves.
    `farthest` is the largest |E(x_k) - mean E(x)| of the training batches since `forget`, nats a dimension: above
    `limit` the module stops the run (null: never), for no sample of the model lies there, however finite it is.
    https://doi.org/10.1162/089976602760128018, https://doi.org/10.1145/1390156.1390290, https://arxiv.org/abs/1903.08689
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
            raise ValueError(f"chains {chains} and restart {restart} are for start persistent, got start {start}")
        self.sampler, self.start, self.count, self.restart = sampler, start, chains, restart
        self.l2, self.jitter, self.limit = l2, jitter, limit
        self.chains = None  # no buffer, or DDP would make all ranks' one
        self.last_batch: dict[str, Tensor] = {}  # of the last training batch, for who watches: energies and chains

    def forward(self, model: Energy, x: Tensor, generator: torch.Generator) -> Tensor:
        """E(x_i) - mean E(x_k), and what `l2` adds, nats, (B,); in training its gradient is the update."""
        x = self.jittered(x, generator)
        with torch.no_grad():
            reached, carry = self.run(model, self.first(model, x, generator)[0], None, generator)
        energies = model.energy(torch.cat([x, reached]))
        data, chains = energies[: len(x)], energies[len(x) :]
        self.record(data, chains, reached, carry)
        loss = data - chains.mean()
        return loss + self.l2 * (data.square() + chains.square().mean()) if self.l2 else loss

    def jittered(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x with the noise that `jitter` adds, (B, ...)."""
        if not self.jitter:
            return x
        return x + self.jitter * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)

    def check(self, model: Energy) -> None:
        """Refuse a model without an energy, and one that the sampler cannot use."""
        super().check(model)
        self.sampler.check(model)

    def first(self, model: Energy, x: Tensor, generator: torch.Generator) -> tuple[Tensor, bool]:
        """Where the chains of this batch begin, (b, ...), and whether that is x itself."""
        if self.start == "data":
            return x, True
        shape = (len(x), *x.shape[1:])
        if self.start == "noise" or (self.chains is None and not self.training):
            return self.sampler.start(model, shape, generator).to(x.dtype), False
        if self.chains is None:
            kept = self.kept(len(x))
            self.chains = self.sampler.start(model, (kept, *x.shape[1:]), generator).to(x.dtype)
        self.chains = self.chains.to(x.device)
        self.chosen = torch.randperm(len(self.chains), generator=generator, device=x.device)[: len(x)]
        start = self.chains[self.chosen]
        if self.restart:
            fresh = self.sampler.start(model, tuple(start.shape), generator).to(x.dtype)
            again = torch.rand(len(start), generator=generator, device=x.device) < self.restart
            start = torch.where(again.reshape(-1, *[1] * (x.ndim - 1)), fresh, start)
        return start, False

    def kept(self, batch: int) -> int:
        """How many chains this rank keeps; ValueError where they do not suffice for a batch."""
        world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        count = batch if self.count is None else self.count // world
        if count < batch or (self.count or 0) % world:
            raise ValueError(
                f"chains is {self.count}, on {world} ranks with {batch} samples each: give a multiple of {world}, "
                f"at least {batch * world}, or null"
            )
        return count

    def run(self, model: Energy, x: Tensor, carry: Any, generator: torch.Generator) -> tuple[Tensor, Any]:
        """The ends of the chains, (b, ...), which are kept if they are to be, and the sampler's carry."""
        kept = self.start == "persistent" and self.training
        for transition in self.sampler.plan(model, tuple(x.shape)):
            x, carry = self.sampler.step(model, x, transition, carry, generator)
        if kept:
            self.chains[self.chosen] = x
        return x, carry

    def record(self, data: Tensor, chains: Tensor, reached: Tensor, carry: Any) -> None:
        """Keep energies and chains of the last training batch, and how far chains have been, on the device."""
        if self.training:
            far = (chains.detach() - data.detach().mean()).abs().amax() / reached[0].numel()
            self.farthest = far if self.farthest is None else torch.maximum(self.farthest, far)
            self.last_batch = {"data": data.detach(), "chains": chains.detach(), "reached": reached}
            if isinstance(carry, tuple):
                self.last_batch["acceptance"] = carry[2]


class RBMContrastiveDivergence(ContrastiveDivergence):
    """Contrastive divergence of models whose hidden units are summed out: the gradient is closed form, plus
    `weight_decay` W; five matrix products for CD-1.

    Training products of experts (Hinton, 2002), https://doi.org/10.1162/089976602760128018

    Args:
        weight_decay: factor of W in its gradient, at least 0.
    """

    needs = (HiddenUnits,)

    def __init__(
        self,
        sampler: Sampler,
        start: Literal["data", "noise", "persistent"] = "data",
        chains: Count | None = None,
        restart: UnitInterval = 0.0,
        weight_decay: NonNegative = 0.0,
        jitter: NonNegative = 0.0,
        limit: Positive | None = 1000.0,
    ) -> None:
        super().__init__(sampler, start, chains, restart, 0.0, jitter, limit)
        self.weight_decay = weight_decay

    @torch.no_grad()
    def forward(self, model: HiddenUnits, x: Tensor, generator: torch.Generator) -> Tensor:
        """E(x_i) - mean E(x_k), nats, (B,); in training its gradient is the update."""
        # Half precision would lose draws of small probability, and the kept chains are of the data's dtype.
        with torch.autocast(x.device.type, enabled=False):
            return self.closed_form(model, self.jittered(x, generator), generator)

    def closed_form(self, model: HiddenUnits, v: Tensor, generator: torch.Generator) -> Tensor:
        """The value, with the gradient that `model.gradient` gives."""
        logits = model.logits(v)
        start, at_data = self.first(model, v, generator)
        carry = logits if at_data and self.sampler.carries_logits else None
        reached, carry = self.run(model, start, carry, generator)
        last = carry if torch.is_tensor(carry) else model.logits(reached)
        rows, all_logits = torch.cat([v, reached]), torch.cat([logits, last])
        data, chains = model.free_energy(rows, all_logits).split([len(v), len(reached)])
        self.record(data, chains, reached, carry)
        value = data - chains.mean()
        if not self.training:
            return value
        if model.centred:
            model.update_offsets(v, logits.sigmoid())
        weight = torch.cat([torch.full_like(data, 1 / len(v)), torch.full_like(chains, -1 / len(reached))])
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}

        def gradients(scale: Tensor) -> list[Tensor]:
            by_name = model.gradient(rows, all_logits, scale * weight)
            if self.weight_decay:
                by_name["W"] = by_name["W"] + scale * self.weight_decay * model.W.detach()
            return [by_name[name] for name in parameters]

        with torch.enable_grad():
            return KnownGradient.apply(value, gradients, *parameters.values())

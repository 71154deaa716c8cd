"""Contrastive divergence: data are pulled down in energy, and what a short chain reaches is pushed up."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_gen.models import EnergyModel, HiddenUnits
from lightning_gen.samplers import Gibbs, GibbsLangevin, Sampler


class Given(torch.autograd.Function):
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


class ContrastiveDivergence(nn.Module):
    """E(x) - E(x_k) with x_k the end of a chain of `sampler`'s steps, through which no gradient runs.

    start: `data` (CD, Hinton, 2002), `noise` (the sampler's own start; modified CD), or `persistent`: chains are kept
    from batch to batch (PCD, Tieleman, 2008). Each batch moves as many of the `chains` of all ranks as it has samples
    (null: just so many are kept), drawn at random, after each is sent back to the sampler's start with probability
    `restart`: with many chains that is the replay buffer of IGEBM (Du & Mordatch, 2019).
    The gradient of machines with hidden units is closed form, plus `weight_decay` W; an energy network's runs through
    its energies, plus `l2` (E(x)^2 + E(x_k)^2). `jitter` is the deviation of Gaussian noise added to the data, whose
    density is then learned with it. Out of training no chain that is kept moves.
    `farthest` is the largest |E(x_k) - mean E(x)| of the training batches since `forget`, nats a dimension: above
    `limit` the module stops the run (null: never), for no sample of the model lies there, however finite it is.
    https://doi.org/10.1162/089976602760128018, https://doi.org/10.1145/1390156.1390290, https://arxiv.org/abs/1903.08689
    """

    def __init__(
        self,
        sampler: Sampler,
        start: Literal["data", "noise", "persistent"] = "data",
        chains: int | None = None,
        restart: float = 0.0,
        l2: float = 0.0,
        weight_decay: float = 0.0,
        jitter: float = 0.0,
        limit: float | None = 1000.0,
    ) -> None:
        super().__init__()
        if start not in ("data", "noise", "persistent"):
            raise ValueError(f"contrastive divergence starts at data, noise or persistent chains, got {start}")
        if start != "persistent" and (chains is not None or restart):
            raise ValueError(f"chains {chains} and restart {restart} are for start persistent, got start {start}")
        if not 0 <= restart <= 1 or min(l2, weight_decay, jitter) < 0 or (chains is not None and chains < 1):
            raise ValueError(
                f"contrastive divergence needs chains >= 1 or null, restart in [0, 1], and l2, weight_decay, "
                f"jitter >= 0; got {chains}, {restart}, {l2}, {weight_decay}, {jitter}"
            )
        if limit is not None and not limit > 0:
            raise ValueError(f"contrastive divergence needs a limit above 0 nats a dimension, or null, got {limit}")
        self.sampler, self.begin, self.count, self.restart = sampler, start, chains, restart
        self.l2, self.weight_decay, self.jitter, self.limit = l2, weight_decay, jitter, limit
        self.chains: Tensor | None = None  # of this rank, (n, ...): no buffer, or DDP would make all ranks' one
        self.seen: dict[str, Tensor] = {}  # of the last training batch, for who watches: energies and chains
        self.farthest: Tensor | None = None  # (), on the device

    def forward(self, model: EnergyModel, x: Tensor, generator: torch.Generator) -> Tensor:
        """E(x_i) - mean E(x_k), and what `l2` adds, nats, (B,); in training its gradient is the update."""
        if isinstance(model, HiddenUnits) and self.l2:
            raise ValueError("l2 is for energy networks: give a machine with hidden units weight_decay")
        if self.jitter:
            noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            x = x + self.jitter * noise
        if isinstance(model, HiddenUnits):
            # Half precision would lose coins of small probability, and the kept chains are of the data's dtype.
            with torch.autocast(x.device.type, enabled=False):
                return self.direct(model, x, generator)
        with torch.no_grad():
            reached, carry = self.run(model, self.first(model, x, generator)[0], None, generator)
        energies = model.energy(torch.cat([x, reached]))
        up, down = energies[: len(x)], energies[len(x) :]
        self.watch(up, down, reached, carry)
        loss = up - down.mean()
        return loss + self.l2 * (up.square() + down.square().mean()) if self.l2 else loss

    @torch.no_grad()
    def direct(self, model: HiddenUnits, v: Tensor, generator: torch.Generator) -> Tensor:
        """The same for hidden units that are summed out: five matrix products for CD-1."""
        field = model.field(v)
        start, own = self.first(model, v, generator)
        known = own and isinstance(self.sampler, Gibbs | GibbsLangevin)  # whose carry the field is
        reached, carry = self.run(model, start, field if known else None, generator)
        last = carry if torch.is_tensor(carry) else model.field(reached)
        rows, fields = torch.cat([v, reached]), torch.cat([field, last])
        up, down = model.free_energy(rows, fields).split([len(v), len(reached)])
        self.watch(up, down, reached, carry)
        value = up - down.mean()
        if not self.training:
            return value
        if model.centred:
            model.move_offsets(v, field.sigmoid())
        weight = torch.cat([torch.full_like(up, 1 / len(v)), torch.full_like(down, -1 / len(reached))])
        names = [name for name in model.names if getattr(model, name).requires_grad]

        def gradients(scale: Tensor) -> list[Tensor]:
            found = model.gradient(rows, fields, scale * weight)
            if self.weight_decay:
                found["W"] = found["W"] + scale * self.weight_decay * model.W.detach()
            return [found[name] for name in names]

        with torch.enable_grad():
            return Given.apply(value, gradients, *(getattr(model, name) for name in names))

    def first(self, model: EnergyModel, x: Tensor, generator: torch.Generator) -> tuple[Tensor, bool]:
        """Where the chains of this batch begin, (b, ...), and whether that is x itself."""
        if self.begin == "data":
            return x, True
        shape = (len(x), *x.shape[1:])
        if self.begin == "noise" or (self.chains is None and not self.training):
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

    def run(self, model: EnergyModel, x: Tensor, carry: Any, generator: torch.Generator) -> tuple[Tensor, Any]:
        """The ends of the chains, (b, ...), which are kept if they are to be, and the sampler's carry."""
        kept = self.begin == "persistent" and self.training
        for transition in self.sampler.plan(model.process):
            x, carry = self.sampler.step(model, x, transition, carry, generator)
        if kept:
            self.chains[self.chosen] = x
        return x, carry

    def forget(self) -> None:
        """Begin `farthest` anew."""
        self.farthest = None

    def watch(self, up: Tensor, down: Tensor, reached: Tensor, carry: Any) -> None:
        """Keep what the last training batch showed, and how far chains have been, on the device."""
        if self.training:
            far = (down.detach() - up.detach().mean()).abs().amax() / reached[0].numel()
            self.farthest = far if self.farthest is None else torch.maximum(self.farthest, far)
            self.seen = {"data": up.detach(), "chains": down.detach(), "reached": reached}
            if isinstance(carry, tuple):
                self.seen["acceptance"] = carry[2]

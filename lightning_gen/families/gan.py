"""Generative adversarial networks: a generator and its critic, two players."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lightning_gen import models
from lightning_gen.families.base import GenerativeModule
from lightning_gen.families.players import Batch, Player
from lightning_gen.losses import AdversarialLoss, Penalty
from lightning_gen.models.base import declared
from lightning_gen.nets import GeneratorCritic
from lightning_gen.options import Count, Rate


class GAN(GenerativeModule):
    """x = G(z), z ~ N(0, I), trained against a critic D that tells x from G(z).

    The generator is the main player: a step is one of its updates, after `critic_steps` of the critic. Weights are
    averaged of the generator alone. val/loss is the generator's, against the critic of the moment.
    Generative adversarial nets (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661

    Args:
        net: generator and critic.
        loss: of both.
        penalty: of the critic's slope; null for none.
        critic_steps: updates of the critic for each of the generator, >= 1; fewer before its last of an epoch, where
            their number does not divide that of the batches.
        critic_optimizer: parameters -> Optimizer of the critic; null for the generator's.
        critic_scheduler: Optimizer -> schedule, stepped once per update of the critic; null for a constant rate.
        label_dropout: of both players, in [0, 1).
        optimizer, options: those of GenerativeModule.
    """

    def __init__(
        self,
        net: GeneratorCritic,
        optimizer: Callable,
        loss: AdversarialLoss,
        penalty: Penalty | None = None,
        critic_steps: Count = 1,
        critic_optimizer: Callable | None = None,
        critic_scheduler: Callable | None = None,
        label_dropout: Rate = 0.0,
        **options: Any,
    ) -> None:
        if options.get("guidance", 1.0) != 1:
            raise ValueError(f"module.guidance is {options['guidance']}, expected 1: a GAN has no score to guide")
        model = models.Generator(net.generator)
        super().__init__(model=model, loss=None, optimizer=optimizer, label_dropout=label_dropout, **options)
        self.critic = net.critic.to(memory_format=self.memory_format)
        self.adversarial, self.penalty = loss, penalty
        self.critic_steps, self.range = critic_steps, declared(net, "value_range")
        self.make_critic_optimizer, self.make_critic_scheduler = critic_optimizer or optimizer, critic_scheduler

    def check_data(self, data: Any) -> None:
        """ValueError for images in another range than the generator's."""
        super().check_data(data)
        check_range(self.range, data)

    def players(self) -> list[Player]:
        """The critic, on every batch, and the generator, on each `critic_steps`-th."""
        critic, generator = ([*part.parameters()] for part in (self.critic, self.model))
        make, schedule = self.make_critic_optimizer, self.make_critic_scheduler
        return [
            Player("critic", critic, self.criticise, make, schedule),
            Player("generator", generator, self.objective, self.make_optimizer, self.make_scheduler, self.critic_steps),
        ]

    def objective(self, model: models.Generator, batch: Batch, noise: torch.Generator, step: int) -> Tensor:
        """Losses of the generator, (B,)."""
        x, critic = batch["x"], partial(self.critic, label=model.label)
        real = critic(x) if self.adversarial.needs_real else None
        return self.adversarial.generator(real, critic(self.generated(model, x, noise)))

    def criticise(self, model: models.Generator, batch: Batch, noise: torch.Generator, step: int) -> Tensor:
        """Losses of the critic, (B,)."""
        x, critic = batch["x"], partial(self.critic, label=model.label)
        with torch.no_grad():
            fake = self.generated(model, x, noise)
        loss = self.adversarial.critic(critic(x), critic(fake))
        return loss if self.penalty is None else loss + self.penalty(critic, x, fake, noise)

    def generated(self, model: models.Generator, x: Tensor, noise: torch.Generator) -> Tensor:
        """G(z), z ~ N(0, I), as many as x, (B, *shape)."""
        return model.visible(torch.randn(len(x), model.latent, generator=noise, device=x.device, dtype=x.dtype))


def check_range(known: tuple[float, float] | None, data: Any) -> None:
    """ValueError for images in another range than `known`, that of G(z); None is any."""
    if known is not None and data.value_range != known:
        found = f"data.value_range is {data.value_range and list(data.value_range)} for {data.name}"
        raise ValueError(
            f"{found}, expected {list(known)}, the range of the generator's tanh: write "
            f"data.value_range={str(list(known)).replace(' ', '')}"
        )

"""Players: parameters with their own objective, optimizer and update interval."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

Batch = dict[str, Tensor]
# (model, batch, noise, step) -> losses (B,) or (); step: updates of this player so far.
Objective = Callable[[Any, Batch, torch.Generator, int], Tensor]


@dataclass
class Player:
    """Parameters that minimise one objective. Most families have one player, a generator and its critic are two.

    Args:
        name: the player's name in the record, as in train/loss/critic.
        parameters: those of its optimizer, which no other player updates.
        objective: (model, batch, noise, step) -> losses (B,) or (); model is the module's with the batch's labels,
            step the number of this player's updates so far.
        make_optimizer: parameters -> Optimizer.
        make_scheduler: Optimizer -> schedule, stepped once per update of this player; None for a constant rate.
        every: interval of its updates in batches, >= 1; it also updates on the last batch of an epoch.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    objective: Objective
    make_optimizer: Callable[[Iterable], torch.optim.Optimizer]
    make_scheduler: Callable | None = None
    every: int = 1
    updates: int = field(default=0, init=False)

    def build(self) -> dict[str, Any]:
        """Make optimizer and schedule, as configure_optimizers returns them; ValueError for ReduceLROnPlateau."""
        self.optimizer = self.make_optimizer(self.parameters)
        self.schedule = None if self.make_scheduler is None else self.make_scheduler(self.optimizer)
        if isinstance(self.schedule, ReduceLROnPlateau):
            raise ValueError(
                "module.scheduler is ReduceLROnPlateau, expected a schedule that is stepped once per optimizer step, "
                "without a metric: choose another, such as CosineAnnealingLR"
            )
        self.trained = [parameter for parameter in self.parameters if parameter.requires_grad]
        self.lr = self.optimizer.param_groups[0]["lr"]
        return {"optimizer": self.optimizer} | ({} if self.schedule is None else {"lr_scheduler": self.schedule})

    def gradients(self) -> list[Tensor]:
        """Gradients of the parameters that have one."""
        groups = self.optimizer.param_groups
        return [p.grad for group in groups for p in group["params"] if p.grad is not None]


def toggle(players: Sequence[Player], turn: Player | None) -> None:
    """Make the parameters of `turn` alone require gradients, or with None those of all players."""
    for player in players:
        for parameter in player.trained:
            parameter.requires_grad_(turn is None)
    for parameter in () if turn is None else turn.trained:
        parameter.requires_grad_(True)


def average_over_ranks(player: Player, world: int) -> None:
    """Average a player's gradients over the ranks in place, in one all-reduce; a missing gradient is zero."""
    for parameter in player.trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in player.trained]
    flat = torch.cat([gradient.flatten() for gradient in gradients]) / world
    torch.distributed.all_reduce(flat)
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))

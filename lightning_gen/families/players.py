"""Who is trained: parameters with an objective, an optimizer and a rhythm of their own."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

Batch = dict[str, Tensor]
# (model, batch, noise, step) -> losses (B,) or (); step: updates that this player has made.
Objective = Callable[[Any, Batch, torch.Generator, int], Tensor]


@dataclass
class Player:
    """Parameters that minimise one objective. A family has one, a generator and its critic are two.

    Args:
        name: the player's name in the record, as in train/loss/critic
        parameters: what its optimizer moves; no other player's turn moves it
        objective: (model, batch, noise, step) -> losses (B,) or (); model is the module's, the batch's labels bound to
            it; step counts this player's updates so far
        make_optimizer: parameters -> Optimizer
        make_scheduler: Optimizer -> a schedule that is stepped once per update of this player; None: a constant rate
        every: it moves on every `every`-th batch of an epoch, and on the epoch's last
    """

    name: str
    parameters: Sequence[nn.Parameter]
    objective: Objective
    make_optimizer: Callable[[Iterable], torch.optim.Optimizer]
    make_scheduler: Callable | None = None
    every: int = 1
    updates: int = field(default=0, init=False)

    def build(self) -> dict[str, Any]:
        """Make optimizer and schedule, as Lightning takes them from configure_optimizers."""
        self.optimizer = self.make_optimizer(self.parameters)
        self.schedule = None if self.make_scheduler is None else self.make_scheduler(self.optimizer)
        if isinstance(self.schedule, ReduceLROnPlateau):
            raise ValueError(
                "the scheduler is ReduceLROnPlateau, which waits for a metric, and schedules are stepped once per "
                "optimizer step: choose another, as CosineAnnealingLR"
            )
        self.trained = [parameter for parameter in self.parameters if parameter.requires_grad]
        self.lr = self.optimizer.param_groups[0]["lr"]
        return {"optimizer": self.optimizer} | ({} if self.schedule is None else {"lr_scheduler": self.schedule})

    def gradients(self) -> list[Tensor]:
        """The gradients that there are."""
        groups = self.optimizer.param_groups
        return [p.grad for group in groups for p in group["params"] if p.grad is not None]


def toggle(players: Sequence[Player], turn: Player | None) -> None:
    """Let the parameters of `turn` alone require gradients; None: those of all players."""
    for player in players:
        for parameter in player.trained:
            parameter.requires_grad_(turn is None)
    for parameter in () if turn is None else turn.trained:
        parameter.requires_grad_(True)


def average_over_ranks(player: Player, world: int) -> None:
    """Replace a player's gradients by their means over the ranks, in one all-reduce; a missing one counts as zero."""
    for parameter in player.trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in player.trained]
    flat = torch.cat([gradient.flatten() for gradient in gradients]) / world
    torch.distributed.all_reduce(flat)
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))

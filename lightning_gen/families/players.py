"""Players: parameters with their own objective, optimizer and update interval."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lightning_gen.errors import first_line

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
        make_scheduler: Optimizer -> schedule, stepped once per update of this player, or ReduceLROnPlateau, stepped by
            each validation loss; None for a constant rate.
        every: interval of its updates in batches, >= 1; it also updates on the last batch of an epoch.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    objective: Objective
    make_optimizer: Callable[[Iterable], torch.optim.Optimizer]
    make_scheduler: Callable | None = None
    every: int = 1
    updates: int = field(default=0, init=False)

    def build(self, steps: int = -1) -> dict[str, Any]:
        """Make optimizer and schedule, as configure_optimizers returns them; ValueError where either cannot be used.

        Args:
            steps: updates of the whole run, -1 where that is not known.
        """
        try:
            self.optimizer = self.make_optimizer(self.parameters)
            check_rates(self.optimizer)
        except Exception as error:
            raise ValueError(f"module.optimizer cannot be made ({first_line(error)}): change its options") from error
        self.optimizer.register_load_state_dict_post_hook(match_formats)
        if self.make_scheduler is not None:
            rehearse(self.make_optimizer, self.make_scheduler, steps)
        self.schedule = None if self.make_scheduler is None else self.make_scheduler(self.optimizer)
        self.plateau = isinstance(self.schedule, ReduceLROnPlateau)
        self.trained = [parameter for parameter in self.parameters if parameter.requires_grad]
        self.lr = self.optimizer.param_groups[0]["lr"]
        return {"optimizer": self.optimizer} | ({} if self.schedule is None else {"lr_scheduler": self.schedule})

    def gradients(self) -> list[Tensor]:
        """Gradients of the parameters that have one."""
        groups = self.optimizer.param_groups
        return [p.grad for group in groups for p in group["params"] if p.grad is not None]


def match_formats(optimizer: torch.optim.Optimizer) -> None:
    """Give loaded state the memory formats of the parameters: fused steps take both in the order of their memory."""
    for parameter, entries in optimizer.state.items():
        for key, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                entries[key] = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def check_rates(optimizer: torch.optim.Optimizer) -> None:
    """ValueError for a learning rate that is negative or not finite."""
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    if not all(0 <= rate < math.inf for rate in rates):
        raise ValueError(f"its learning rates are {rates}, expected 0 or more, and finite")


def rehearse(make_optimizer: Callable, make_scheduler: Callable, steps: int) -> None:
    """ValueError for a schedule that cannot be made or stepped, as with a period of 0, or ends before the last step.

    It is tried with one parameter: its first steps, and the last of `steps`, -1 for an unknown number.
    """
    try:
        optimizer = make_optimizer([nn.Parameter(torch.zeros(1, 1))])
        schedule = make_scheduler(optimizer)
        plateau = isinstance(schedule, ReduceLROnPlateau)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the optimizer has not been stepped
            for _ in range(3):
                schedule.step(*[1.0] * plateau)
                check_rates(optimizer)
            if steps > 3 and not plateau:
                schedule.last_epoch = steps - 1
                schedule.step()
                check_rates(optimizer)
    except Exception as error:
        name = getattr(make_scheduler, "func", make_scheduler)
        raise ValueError(
            f"module.scheduler {getattr(name, '__name__', name)} cannot be used ({first_line(error)}): change its "
            "options, or choose another, such as CosineAnnealingLR"
        ) from error


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

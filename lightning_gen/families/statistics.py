"""Means of training loss and gradient norm, and the flag of values that are not finite, on the device."""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor

from lightning_gen.errors import NonFinite


class TrainingStatistics:
    """Sums of the players' losses and gradient norms since the last record, and whether any is not finite.

    Args:
        players: names; the last is the main player, whose values are recorded without its name.
    """

    def __init__(self, players: Sequence[str] = ("model",)) -> None:
        self.players = tuple(players)
        self.main = self.players[-1]
        self.unread: tuple[Tensor | float, int] = (0.0, 0)  # sum and number of losses since a callback read their mean
        self.nonfinite: Tensor | None = None  # 1 where a value was not finite, (), float
        self.reset()

    def reset(self, step: int = 0) -> None:
        """Reset the sums after optimizer step number `step`."""
        self.first = step
        self.losses: dict[str, Tensor | float] = dict.fromkeys(self.players, 0.0)
        self.norms: dict[str, Tensor | float] = dict.fromkeys(self.players, 0.0)
        self.batches, self.updates = dict.fromkeys(self.players, 0), dict.fromkeys(self.players, 0)

    def add_loss(self, loss: Tensor, player: str | None = None) -> None:
        """Add the loss of one micro-batch, (), of a player (None: the main one)."""
        player = player or self.main
        value = number(loss)
        self.losses[player] = self.losses[player] + value
        self.batches[player] += 1
        if player == self.main:
            self.unread = (self.unread[0] + value, self.unread[1] + 1)

    def add_gradient(self, norm: Tensor, trainer: Any, player: str | None = None, scaled: bool = False) -> None:
        """Add the gradient norm of one update; sets `nonfinite` on all ranks if a sum of any rank is not finite.

        Args:
            norm: Euclidean norm of the gradient before clipping, ().
            trainer: the trainer.
            player: name of the player; None for the main one.
            scaled: whether a loss scaler skips updates with an infinite gradient: the means leave them out, too.
        """
        player, value, count = player or self.main, number(norm), 1
        if scaled:
            count = torch.isfinite(value := torch.as_tensor(value))
            value = value.where(count, 0.0)
        self.norms[player], self.updates[player] = self.norms[player] + value, self.updates[player] + count
        # Sums stay non-finite: no update may change the weights until the host has read the flag and stopped.
        total = reduce(add, [*self.losses.values(), *self.norms.values()])
        # Infinity and nan times 0 are nan; (), float32, as fused optimizers need found_inf.
        nonfinite = torch.as_tensor(total * 0 != 0, dtype=torch.float32)
        if trainer.world_size > 1:
            torch.distributed.all_reduce(nonfinite, torch.distributed.ReduceOp.MAX)
        self.nonfinite = nonfinite

    def raise_if_nonfinite(self, trainer: Any, step: int) -> None:
        """NonFinite on all ranks, naming quantity, steps and ranks, if the flag is set at optimizer step `step`."""
        if self.nonfinite is None or not float(self.nonfinite):
            return
        flags = torch.zeros(trainer.world_size, len(self.players), device=self.nonfinite.device)
        losses = [torch.as_tensor(loss) for loss in self.losses.values()]
        flags[trainer.global_rank] = torch.tensor([not bool(torch.isfinite(loss)) for loss in losses]).to(flags)
        if trainer.world_size > 1:
            torch.distributed.all_reduce(flags)
        ranks = [str(rank) for rank, row in enumerate(flags.tolist()) if any(row)]
        norms = [torch.as_tensor(norm) for norm in self.norms.values()]
        of_players = flags.any(0).tolist() if ranks else [not bool(torch.isfinite(norm)) for norm in norms]
        names = [name for name, flag in zip(self.players, of_players, strict=True) if flag]
        of = f" of {', '.join(names)}" if len(self.players) > 1 else ""
        quantity, where = ("training loss", f" on rank {', '.join(ranks)}") if ranks else ("gradient", "")
        raise NonFinite(
            f"{quantity}{of} is not finite{where}, at one of the optimizer steps {self.first + 1} to {step}: "
            "the weights were not updated by it; "
            "lower module.optimizer.lr, or set trainer.gradient_clip_val"
        )

    def pop_means(self, step: int) -> dict[str, float]:
        """Means since the last record of train/loss and train/gradient_norm, of other players train/loss/<name>."""
        values = {}
        for player in reversed(self.players):
            of = "" if player == self.main else f"/{player}"
            values[f"train/loss{of}"] = float(self.losses[player]) / max(self.batches[player], 1)
            values[f"train/gradient_norm{of}"] = float(self.norms[player]) / max(float(self.updates[player]), 1)
        self.reset(step)
        return values


def number(value: Tensor) -> Tensor | float:
    """A value, (), to be added to a sum: on the host where it is there, for numbers take less time than tensors."""
    value = value.detach()
    return value.item() if value.device.type == "cpu" else value.float()

"""Whether training is sound: means of loss and gradient norm, and a flag that holds the update back."""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor

from lightning_gen.errors import NonFinite


class Health:
    """Losses and gradient norms of the players since the last log, and whether any was not finite, on the device.

    Args:
        players: their names; the last is the main one, whose values are recorded without a name
    """

    def __init__(self, players: Sequence[str] = ("model",)) -> None:
        self.players = tuple(players)
        self.main = self.players[-1]
        self.bad: Tensor | None = None
        self.reset()

    def reset(self, step: int = 0) -> None:
        """Start the means anew, after `step` optimizer steps."""
        self.first = step
        self.losses: dict[str, Tensor | float] = dict.fromkeys(self.players, 0.0)
        self.norms: dict[str, Tensor | float] = dict.fromkeys(self.players, 0.0)
        self.batches, self.updates = dict.fromkeys(self.players, 0), dict.fromkeys(self.players, 0)

    def loss(self, loss: Tensor, player: str | None = None) -> None:
        """Take in one micro-batch of a player (None: the main one)."""
        player = player or self.main
        self.losses[player] = self.losses[player] + loss.detach().float()
        self.batches[player] += 1

    def gradient(self, norm: Tensor, trainer: Any, player: str | None = None, scaled: bool = False) -> None:
        """Take in the gradient of one update; `bad` becomes 1 on every rank if anything on any rank is not finite.

        scaled: the loss is scaled for half precision, where an infinite gradient means a smaller scale next time: the
        scaler leaves that update out, and so do the means.
        """
        player, norm, one = player or self.main, norm.detach().float(), 1
        if scaled:
            one = torch.isfinite(norm)
            norm = norm.where(one, 0.0)
        self.norms[player], self.updates[player] = self.norms[player] + norm, self.updates[player] + one
        # Once bad, always bad, as sums are: nothing may move the weights until the host has read the flag and stopped.
        total = reduce(add, [*self.losses.values(), *self.norms.values()])
        bad = torch.isfinite(total).logical_not().float()  # (), as fused optimizers want found_inf
        if trainer.world_size > 1:
            torch.distributed.all_reduce(bad, torch.distributed.ReduceOp.MAX)
        self.bad = bad

    def stop(self, trainer: Any, step: int) -> None:
        """Read the flag in optimizer step number `step`; raise NonFinite on all ranks, quantity, step, rank named."""
        if self.bad is None or not float(self.bad):
            return
        mine = torch.zeros(trainer.world_size, len(self.players), device=self.bad.device)
        losses = [torch.as_tensor(loss) for loss in self.losses.values()]
        mine[trainer.global_rank] = torch.tensor([not bool(torch.isfinite(loss)) for loss in losses]).to(mine)
        if trainer.world_size > 1:
            torch.distributed.all_reduce(mine)
        ranks = [str(rank) for rank, flags in enumerate(mine.tolist()) if any(flags)]
        norms = [torch.as_tensor(norm) for norm in self.norms.values()]
        flags = mine.any(0).tolist() if ranks else [not bool(torch.isfinite(norm)) for norm in norms]
        names = [name for name, flag in zip(self.players, flags, strict=True) if flag]
        of = f" of {', '.join(names)}" if len(self.players) > 1 else ""
        what = f"training loss{of} is not finite on rank {', '.join(ranks)}" if ranks else f"gradient{of} is not finite"
        raise NonFinite(
            f"{what}, at one of the optimizer steps {self.first + 1} to {step}: the weights were not touched by it; "
            "lower module.optimizer.lr, or set trainer.gradient_clip_val"
        )

    def read(self, step: int) -> dict[str, float]:
        """train/loss and train/gradient_norm, means since the last call, of other players train/loss/<name>."""
        values = {}
        for player in reversed(self.players):
            of = "" if player == self.main else f"/{player}"
            values[f"train/loss{of}"] = float(self.losses[player]) / max(self.batches[player], 1)
            values[f"train/gradient_norm{of}"] = float(self.norms[player]) / max(float(self.updates[player]), 1)
        self.reset(step)
        return values

"""Whether training is sound: means of loss and gradient norm, and a flag that holds the update back."""

from typing import Any

import torch
from torch import Tensor

from lightning_gen.errors import NonFinite


class Health:
    """Loss and gradient norm since the last log, and whether any of them was not finite, all on the device."""

    def __init__(self) -> None:
        self.reset()
        self.bad: Tensor | None = None

    def reset(self, step: int = 0) -> None:
        """Start the means anew, after `step` optimizer steps."""
        self.first = step
        self.losses: Tensor | float = 0.0
        self.norms: Tensor | float = 0.0
        self.batches = self.updates = 0

    def loss(self, loss: Tensor) -> None:
        """Take in one micro-batch."""
        self.losses, self.batches = self.losses + loss.detach().float(), self.batches + 1

    def gradient(self, norm: Tensor, trainer: Any) -> None:
        """Take in the gradient of one update; `bad` becomes 1 on every rank if anything on any rank is not finite."""
        self.norms, self.updates = self.norms + norm.detach().float(), self.updates + 1
        # Once bad, always bad, as sums are: nothing may move the weights until the host has read the flag and stopped.
        bad = torch.isfinite(self.losses + self.norms).logical_not().float()  # (), as fused optimizers want found_inf
        if trainer.world_size > 1:
            torch.distributed.all_reduce(bad, torch.distributed.ReduceOp.MAX)
        self.bad = bad

    def stop(self, trainer: Any) -> None:
        """Read the flag; raise NonFinite on all ranks, with quantity, step and rank named."""
        if self.bad is None or not float(self.bad):
            return
        mine = torch.zeros(trainer.world_size, device=self.bad.device)
        mine[trainer.global_rank] = float(not torch.isfinite(torch.as_tensor(self.losses)))
        if trainer.world_size > 1:
            torch.distributed.all_reduce(mine)
        ranks = [rank for rank, flag in enumerate(mine.tolist()) if flag]
        what = (
            f"training loss is not finite on rank {', '.join(map(str, ranks))}" if ranks else "gradient is not finite"
        )
        steps = f"{self.first + 1} to {trainer.global_step + 1}"
        raise NonFinite(
            f"{what}, at one of the optimizer steps {steps}: the weights were not touched by it; "
            "lower module.optimizer.lr, or set trainer.gradient_clip_val"
        )

    def read(self, step: int) -> dict[str, float]:
        """The means since the last call, on the host; `step` optimizer steps are done."""
        values = {
            "train/loss": float(self.losses) / max(self.batches, 1),
            "train/gradient_norm": float(self.norms) / max(self.updates, 1),
        }
        self.reset(step)
        return values

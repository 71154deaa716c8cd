"""The training step of every family, for one player or several: no objective can change it."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from lightning_gen.errors import NonFinite
from lightning_gen.families.average import Average
from lightning_gen.families.players import Batch, Player, average_over_ranks, toggle
from lightning_gen.families.shards import whole
from lightning_gen.families.statistics import TrainingStatistics

SMALLEST_SCALE = 1e-6  # of the loss for half precision: below it no scale makes the gradients finite


class Optimisation:
    """Manual optimisation: in turn, each player takes a step along the clipped gradient of its objective.

    The last player is the main one: its steps are the trainer's global_step, and each updates the average. The others
    update before it on the same batch. The gradient norm of each is clipped by trainer.gradient_clip_val. A single
    player accumulates the gradients of trainer.accumulate_grad_batches micro-batches, or of those left at the end of an
    epoch, each loss divided by their number. Several players take one batch per step.

    Args:
        module: a GenerativeModule.
        players: in the order of their updates, the main one last.
        average: the moving average of the main player's weights, or None.
    """

    def __init__(self, module: LightningModule, players: list[Player], average: Average | None) -> None:
        self.module, self.players, self.average = module, players, average
        self.main, self.several = players[-1], len(players) > 1
        self.statistics = TrainingStatistics([player.name for player in players])
        self.turn = self.main

    def build(self) -> list[dict[str, Any]]:
        """Optimizers and schedules, as Lightning expects them; ValueError for options of one player alone."""
        trainer = self.module._trainer
        if trainer is not None and self.several:
            if trainer.accumulate_grad_batches not in (1, self.main.every):
                raise ValueError(
                    f"trainer.accumulate_grad_batches is {trainer.accumulate_grad_batches} with {len(self.players)} "
                    "players, expected 1: write 1, and a larger data.batch_size"
                )
            if trainer.world_size > 1 and not isinstance(trainer.strategy, DDPStrategy):
                raise ValueError(
                    f"trainer.strategy is {type(trainer.strategy).__name__} with {len(self.players)} players, "
                    "expected ddp: write trainer.strategy=ddp"
                )
            # Lightning computes the length of the run and the axis of its loggers from it.
            trainer.accumulate_grad_batches = self.main.every
        # Epochs may end the run before its steps.
        steps = trainer.max_steps if trainer is not None and trainer.max_epochs in (None, -1) else -1
        built = [player.build(steps if player is self.main else -1) for player in self.players]
        if others := [player.name for player in self.players[:-1] if player.plateau]:
            raise ValueError(
                f"the schedule of the {others[0]} is ReduceLROnPlateau, and val/loss is of the {self.main.name}, "
                "expected one that is stepped once per update: choose another, such as CosineAnnealingLR"
            )
        return built

    def start(self) -> None:
        """Reset the statistics at the first step of a new or resumed run."""
        self.statistics.reset(self.module.trainer.global_step)
        for config in self.module.trainer.lr_scheduler_configs:
            config.interval = "step"  # Lightning steps no schedule here, but LearningRateMonitor reads the interval

    def share_buffers(self, batch_idx: int) -> None:
        """Let DDP broadcast rank 0's buffers at each window's start: Lightning disables it in manual optimisation."""
        wrapped = self.module.trainer.model
        if isinstance(wrapped, DistributedDataParallel):
            window = 1 if self.several else self.module.trainer.accumulate_grad_batches
            wrapped.require_forward_param_sync = batch_idx % window == 0

    def step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Update the players due on this batch; returns the last loss, divided by the number of micro-batches, ()."""
        trainer = self.module.trainer
        self.main.updates = trainer.global_step
        is_last = trainer.is_last_batch or batch_idx + 1 == trainer.num_training_batches
        if not self.several:
            window = trainer.accumulate_grad_batches
            first = batch_idx - batch_idx % window
            n = int(min(window, trainer.num_training_batches - first))  # fewer at the end of an epoch
            return self.micro_batch(
                self.main, batch, batch_idx, batch_idx == first, is_last or batch_idx + 1 == first + n, n
            )
        loss = None
        for player in self.players:
            if is_last or (batch_idx + 1) % player.every == 0:
                toggle(self.players, player)
                loss = self.micro_batch(player, batch, batch_idx)
        toggle(self.players, None)
        return loss

    def micro_batch(
        self, player: Player, batch: Batch, batch_idx: int, is_first: bool = True, is_last: bool = True, n: int = 1
    ) -> Tensor:
        """Loss of one micro-batch of n, (), after its backward pass; the last of a window is followed by the update."""
        if is_first:
            player.optimizer.zero_grad()
        loss = self.module.losses(player, batch, batch_idx, player is self.main).mean()
        self.statistics.add_loss(loss, player.name)
        loss = loss / n if n > 1 else loss
        with self.full_precision():
            self.backward(loss, is_last)
            if is_last:
                self.update(player)
        return loss

    def full_precision(self) -> AbstractContextManager:
        """Context without autocast, under which Lightning calls training_step, for all but the forward pass."""
        device = self.module.device.type
        return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()

    def backward(self, loss: Tensor, sync: bool) -> None:
        """Accumulate the gradient of a micro-batch; with `sync` DDP averages that of a single player over the ranks."""
        wrapped = self.module.trainer.model
        if isinstance(wrapped, DistributedDataParallel):
            # With several players a backward pass reaches some parameters only, and DDP would wait for all.
            wrapped.require_backward_grad_sync = sync and not self.several
        self.module.manual_backward(loss)

    def update(self, player: Player) -> None:
        """One optimizer step of a player by Lightning's precision plugin, which calls `check` before it."""
        trainer, self.turn = self.module.trainer, player
        if self.several and trainer.world_size > 1:
            average_over_ranks(player, trainer.world_size)
        player.lr = player.optimizer.param_groups[0]["lr"]
        if player is self.main:
            optimizers = self.module.optimizers()
            (optimizers[-1] if self.several else optimizers).step()
            self.count(trainer.global_step)
        else:  # Lightning's wrapper of the optimizer would count it as a step
            trainer.strategy.optimizer_step(player.optimizer, lambda: None)
            player.updates += 1
        if player.schedule is not None and not player.plateau:
            player.schedule.step()

    def validated(self, loss: float) -> None:
        """Step a schedule that waits for a plateau of the validation loss."""
        if self.main.plateau:
            self.main.schedule.step(loss)

    def show(self) -> None:
        """Give train/loss, its mean over the ranks since the last time, to callbacks and Lightning's progress bar."""
        trainer, (total, count) = self.module.trainer, self.statistics.unread
        if not count:
            return
        self.statistics.unread = (0.0, 0)
        mean = torch.as_tensor(total / count, device=self.module.device)
        trainer.callback_metrics["train/loss"] = mean = trainer.strategy.reduce(mean, reduce_op="mean")
        trainer.progress_bar_metrics["train/loss"] = float(mean)

    def check(self) -> None:
        """Clip the gradient, and prevent the update where a loss or gradient is not finite on any rank."""
        optimizer, trainer = self.turn.optimizer, self.module.trainer
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        fused = getattr(optimizer, "_step_supports_amp_scaling", False)
        if scaler is not None and fused:  # Lightning leaves it to the optimizer, which would unscale after clipping
            scaler.unscale_(optimizer)
        gradients = self.turn.gradients()
        norm = whole(torch.nn.utils.get_total_norm(gradients))
        self.clip(norm)
        self.statistics.add_gradient(norm, trainer, self.turn.name, scaled=scaler is not None)
        if fused and scaler is None and self.on_accelerator():
            # A fused optimizer skips the update where found_inf is 1, without a host sync.
            optimizer.grad_scale, optimizer.found_inf = None, self.statistics.nonfinite
        else:
            self.statistics.raise_if_nonfinite(trainer, trainer.global_step + 1)

    def on_accelerator(self) -> bool:
        """Whether the module is on a device that the host has to wait for."""
        return self.module.device.type != "cpu"

    def finish(self) -> None:
        """NonFinite if a loss or gradient since the last record was not finite."""
        trainer = self.module.trainer
        self.statistics.raise_if_nonfinite(trainer, trainer.global_step)

    def clip(self, norm: Tensor) -> None:
        """Clip the current player's gradient, of Euclidean norm `norm`, by trainer.gradient_clip_val."""
        trainer, limit = self.module.trainer, self.module.trainer.gradient_clip_val
        if not limit:
            return
        parameters = [p for group in self.turn.optimizer.param_groups for p in group["params"]]
        if trainer.gradient_clip_algorithm == "value":
            torch.nn.utils.clip_grad_value_(parameters, limit)
        elif self.on_accelerator() or not float(norm) + 1e-6 <= limit:  # else the factor, limit / (norm + 1e-6), is 1
            torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)

    def count(self, step: int) -> None:
        """Update the average after the main player's step number `step`; record every log_every_n_steps."""
        if self.average is not None:
            self.average.update(step)
        trainer = self.module.trainer
        if step % trainer.log_every_n_steps:
            return
        self.statistics.raise_if_nonfinite(trainer, step)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and scaler.get_scale() < SMALLEST_SCALE:
            raise NonFinite(f"no gradient is finite at step {step} for any loss scale: lower module.optimizer.lr")
        values = self.statistics.pop_means(step)
        self.module.last_loss = values["train/loss"]
        trainer.progress_bar_metrics["train/loss"] = values["train/loss"]
        rates = {f"train/lr/{player.name}": player.lr for player in self.players[:-1]}
        self.module.record({**values, "train/lr": self.main.lr, **rates}, step)
        self.module.watch(step)

    def state(self) -> dict[str, Any]:
        """Entries of a checkpoint: the updates of each player but the main one, whose count is the trainer's
        global_step, and the losses whose mean no callback has read; called on all ranks."""
        total, count = self.statistics.unread
        dtype = torch.float32 if self.on_accelerator() else torch.float64  # as it is summed, for a resume to the bit
        total = torch.as_tensor(total, device=self.module.device, dtype=dtype)
        unread = [float(self.module.trainer.strategy.reduce(total, reduce_op="mean")), count]
        return {"updates": {player.name: player.updates for player in self.players[:-1]}, "unread": unread}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore both; older checkpoints have no losses, or neither."""
        self.statistics.unread = tuple(state.get("unread", (0.0, 0)))
        for player in self.players[:-1] if "updates" in state else ():
            player.updates = state["updates"][player.name]


def restore_step_count(checkpoint: dict[str, Any]) -> None:
    """Give a checkpoint from automatic optimisation, of older versions, the step count of manual optimisation."""
    loop = checkpoint.get("loops", {}).get("fit_loop", {})
    progress = loop.get("epoch_loop.manual_optimization.optim_step_progress")
    if progress is not None and not progress["total"]["completed"]:
        for part in ("total", "current"):
            progress[part] |= dict.fromkeys(progress[part], checkpoint["global_step"])

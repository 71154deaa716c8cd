"""One training step for one player or several, whatever the family: what no objective can change or lose."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from lightning_gen.errors import NonFinite
from lightning_gen.families.average import Average
from lightning_gen.families.health import Health
from lightning_gen.families.players import Batch, Player, average_over_ranks, toggle

SMALLEST_SCALE = 1e-6  # a loss scale that half precision never needs: the gradients are infinite whatever it is


class Optimisation:
    """Manual optimisation of a module's players: each in turn takes a step along the clipped gradient of its objective.

    The last player is the main one: its steps are the trainer's global_step, and after each of them the average moves.
    The others move before it on the same batch. Each has its own gradient norm, clipped by trainer.gradient_clip_val.
    One player accumulates trainer.accumulate_grad_batches micro-batches, each divided by their number; the window ends
    with the epoch, however short it is then. Several take one batch a step.

    Args:
        module: a GenerativeModule
        players: in their order of play; the last one counts
        average: what follows the main player's steps, or None
    """

    def __init__(self, module: LightningModule, players: list[Player], average: Average | None) -> None:
        self.module, self.players, self.average = module, players, average
        self.main, self.several = players[-1], len(players) > 1
        self.health = Health([player.name for player in players])
        self.turn = self.main

    def build(self) -> list[dict[str, Any]]:
        """Optimizers and schedules; ValueError for what several players cannot do."""
        trainer = self.module._trainer
        if trainer is not None and self.several:
            if trainer.accumulate_grad_batches not in (1, self.main.every):
                raise ValueError(
                    f"trainer.accumulate_grad_batches is {trainer.accumulate_grad_batches}, and {len(self.players)} "
                    "players take turns on each batch: write 1, and a larger data.batch_size"
                )
            if trainer.world_size > 1 and not isinstance(trainer.strategy, DDPStrategy):
                raise ValueError(
                    f"trainer.strategy is {type(trainer.strategy).__name__}, and {len(self.players)} players share "
                    "their gradients under ddp alone: write trainer.strategy=ddp"
                )
            # Lightning counts batches per optimizer step by it, for the length of the run and the axis of its loggers.
            trainer.accumulate_grad_batches = self.main.every
        return [player.build() for player in self.players]

    def start(self) -> None:
        """Count from where the run stands, new or resumed."""
        self.health.reset(self.module.trainer.global_step)
        for config in self.module.trainer.lr_scheduler_configs:
            config.interval = "step"  # Lightning steps no schedule here, but LearningRateMonitor asks

    def share_buffers(self, batch_idx: int) -> None:
        """Let DDP send rank 0's buffers where a window begins; of manual optimisation Lightning makes it forget to."""
        wrapped = self.module.trainer.model
        if isinstance(wrapped, DistributedDataParallel):
            window = 1 if self.several else self.module.trainer.accumulate_grad_batches
            wrapped.require_forward_param_sync = batch_idx % window == 0

    def step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Move the players whose turn it is; the last loss, divided by the number of micro-batches, ()."""
        trainer = self.module.trainer
        self.main.updates = trainer.global_step
        ends = trainer.is_last_batch or batch_idx + 1 == trainer.num_training_batches
        if not self.several:
            window = trainer.accumulate_grad_batches
            ends = ends or (batch_idx + 1) % window == 0
            return self.micro_batch(self.main, batch, batch_idx, batch_idx % window == 0, ends, window)
        loss = None
        for player in self.players:
            if ends or (batch_idx + 1) % player.every == 0:
                toggle(self.players, player)
                loss = self.micro_batch(player, batch, batch_idx)
        toggle(self.players, None)
        return loss

    def micro_batch(
        self, player: Player, batch: Batch, batch_idx: int, begins: bool = True, ends: bool = True, n: int = 1
    ) -> Tensor:
        """Loss of one micro-batch of n, (), and its gradient; the update where it `ends` a window."""
        if begins:
            player.optimizer.zero_grad()
        loss = self.module.losses(player, batch, batch_idx, player is self.main).mean()
        self.health.loss(loss, player.name)
        loss = loss / n if n > 1 else loss
        with self.full_precision():
            self.backward(loss, ends)
            if ends:
                self.update(player)
        return loss

    def full_precision(self) -> AbstractContextManager:
        """Lightning calls training_step under autocast, which is for the forward pass alone."""
        device = self.module.device.type
        return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()

    def backward(self, loss: Tensor, sync: bool) -> None:
        """Add a micro-batch's gradient. DDP averages one player's over the ranks while it runs, at a window's end."""
        wrapped = self.module.trainer.model
        if isinstance(wrapped, DistributedDataParallel):
            # With several players a backward pass reaches some parameters only, for which DDP would wait.
            wrapped.require_backward_grad_sync = sync and not self.several
        self.module.manual_backward(loss)

    def update(self, player: Player) -> None:
        """One optimizer step of a player, through Lightning's precision plugin, which calls `check` before it."""
        trainer, self.turn = self.module.trainer, player
        if self.several and trainer.world_size > 1:
            average_over_ranks(player, trainer.world_size)
        player.lr = player.optimizer.param_groups[0]["lr"]
        if player is self.main:
            optimizers = self.module.optimizers()
            (optimizers[-1] if self.several else optimizers).step()
            self.count(trainer.global_step)
        else:  # Lightning's own wrapper would count it
            trainer.strategy.optimizer_step(player.optimizer, lambda: None)
            player.updates += 1
        if player.schedule is not None:
            player.schedule.step()

    def check(self) -> None:
        """Clip, and hold the update back where a loss or a gradient is not finite on any rank."""
        optimizer, trainer = self.turn.optimizer, self.module.trainer
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        fused = getattr(optimizer, "_step_supports_amp_scaling", False)
        if scaler is not None and fused:  # Lightning leaves it to the optimizer, which knows nothing of clipping
            scaler.unscale_(optimizer)
        gradients = self.turn.gradients()
        norm = torch.nn.utils.get_total_norm(gradients)
        self.clip(norm)
        self.health.gradient(norm, trainer, self.turn.name, scaled=scaler is not None)
        if fused and scaler is None and self.on_accelerator():
            # A fused optimizer leaves weights and moments alone where found_inf is 1: no host sync.
            optimizer.grad_scale, optimizer.found_inf = None, self.health.bad
        else:
            self.health.stop(trainer, trainer.global_step + 1)

    def on_accelerator(self) -> bool:
        """Whether the host would wait for the device to read a flag."""
        return self.module.device.type != "cpu"

    def finish(self) -> None:
        """Read the flag of the updates since the last record, once, after the last of them."""
        trainer = self.module.trainer
        self.health.stop(trainer, trainer.global_step)

    def clip(self, norm: Tensor) -> None:
        """Clip the gradients of the player whose turn it is by trainer.gradient_clip_val, as its algorithm says."""
        trainer = self.module.trainer
        if not trainer.gradient_clip_val:
            return
        parameters = [p for group in self.turn.optimizer.param_groups for p in group["params"]]
        if trainer.gradient_clip_algorithm == "value":
            torch.nn.utils.clip_grad_value_(parameters, trainer.gradient_clip_val)
        else:
            torch.nn.utils.clip_grads_with_norm_(parameters, trainer.gradient_clip_val, norm)

    def count(self, step: int) -> None:
        """After the main player's step number `step`: move the average, and every log_every_n_steps record."""
        if self.average is not None:
            self.average.update(step)
        trainer = self.module.trainer
        if step % trainer.log_every_n_steps:
            return
        self.health.stop(trainer, step)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and scaler.get_scale() < SMALLEST_SCALE:
            raise NonFinite(f"no gradient is finite at step {step}, whatever the loss scale: lower module.optimizer.lr")
        values = self.health.read(step)
        self.module.last_loss = values["train/loss"]
        rates = {f"train/lr/{player.name}": player.lr for player in self.players[:-1]}
        self.module.record({**values, "train/lr": self.main.lr, **rates}, step)
        self.module.watch(step)

    def state(self) -> dict[str, int]:
        """How many updates each player but the main one has made; that one's are the trainer's."""
        return {player.name: player.updates for player in self.players[:-1]}

    def load_state(self, state: dict[str, int]) -> None:
        """Go on from those numbers."""
        for player in self.players[:-1]:
            player.updates = state[player.name]


def counted(checkpoint: dict[str, Any]) -> None:
    """Write the steps where manual optimisation counts them; older checkpoints have automatic optimisation's count."""
    loop = checkpoint.get("loops", {}).get("fit_loop", {})
    progress = loop.get("epoch_loop.manual_optimization.optim_step_progress")
    if progress is not None and not progress["total"]["completed"]:
        for part in ("total", "current"):
            progress[part] |= dict.fromkeys(progress[part], checkpoint["global_step"])

"""Validation of a module in training: the averaged model's loss, the same whenever it is measured."""

import torch
from torch import Tensor

from lightning_gen.errors import NonFinite
from lightning_gen.randomness import generator


class Validation:
    """What GenerativeModule does with a validation batch; it needs objective, labelled, encoded, averaged, trainer."""

    def record(self, values: dict[str, float], step: int) -> None:
        """Log values at a number of optimizer steps to all loggers."""
        for logger in self.trainer.loggers:
            logger.log_metrics({**values, "epoch": self.current_epoch}, step=step)

    def on_validation_epoch_start(self) -> None:
        """Reset the sums of loss and samples."""
        self.sums = torch.zeros(2, dtype=torch.float64)
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self.optimisation.show()

    def on_train_epoch_end(self) -> None:
        """Callbacks that look at the end of an epoch find train/loss."""
        self.optimisation.show()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Add the averaged model's loss; the noise is a function of (seed, index of the first sample), or of batch and
        rank where a loader gives no index."""
        place = (int(batch["index"][0]),) if "index" in batch else ("batch", batch_idx, self.global_rank)
        noise = generator(self.seed, "val", *place, device=self.device)
        batch = self.encoded(batch, noise)
        loss = self.objective(self.labelled(self.averaged, batch), batch, noise, self.trainer.global_step)
        if not torch.isfinite(loss).all():
            raise NonFinite(
                f"validation loss is not finite at step {self.trainer.global_step}, rank {self.global_rank}"
            )
        self.sums += torch.tensor([loss.cpu().double().sum().item(), len(loss)], dtype=torch.float64)

    def on_validation_epoch_end(self) -> None:
        """Record the mean over all samples of all ranks, named by the weights (ema or raw)."""
        if self.trainer.sanity_checking:
            return
        total, count = self.trainer.strategy.reduce(self.sums.to(self.device, torch.float32), reduce_op="sum")
        name = "val/loss/raw" if self.ema is None else "val/loss/ema"
        if count > 0:
            self.trainer.callback_metrics[name] = total / count
            self.record({name: float(total / count)}, self.trainer.global_step)
            if self.trainer.state.fn == "fit":
                self.optimisation.validated(float(total / count))

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Nothing: callbacks evaluate in the test loop."""

"""A callback: Lightning's hooks, with an option of its own."""

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_gen.options import Checked, Count


class WeightNorm(Checked, Callback):
    """Records the norm of all weights as spirals/weight_norm.

    Args:
        every: training batches between two records.
    """

    def __init__(self, every: Count = 10) -> None:
        self.every = every

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Record it at every `every`-th step."""
        if trainer.global_step % self.every == 0:
            squares = sum(float(p.detach().square().sum()) for p in pl_module.model.parameters())
            pl_module.record({"spirals/weight_norm": squares**0.5}, trainer.global_step)

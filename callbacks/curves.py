"""The run's curves as one picture, drawn as it goes."""

from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_gen.callbacks.publishing import log_image
from lightning_gen.options import Checked, Natural
from lightning_gen.results.curves import draw_curves


class Curves(Checked, Callback):
    """curves.png from record.jsonl: losses, metrics with their errors, speed, over optimizer steps.

    Drawn at the end of training, after a test, and every `every_n_epochs` (0 = never). Loggers, which draw curves of
    their own from the same numbers, are sent it once, after the test.
    """

    def __init__(self, every_n_epochs: Natural = 0) -> None:
        super().__init__()
        self.every_n_epochs = every_n_epochs

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        due = self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if due and not trainer.sanity_checking and trainer.state.fn == "fit":
            self._draw(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (path := self._draw(trainer)) is not None:
            log_image(trainer, "curves", path)

    def _draw(self, trainer: Trainer) -> Path | None:
        return draw_curves(trainer.default_root_dir) if trainer.is_global_zero else None

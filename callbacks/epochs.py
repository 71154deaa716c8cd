"""When evaluation callbacks work: at chosen epochs of training, and at the end."""

from abc import ABC, abstractmethod
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class AtEpochs(Callback, ABC):
    """Works after each `every_n_epochs`-th epoch of training (0: none), and finally at the test stage."""

    every_n_epochs: int = 0

    @abstractmethod
    def measure(self, trainer: Trainer, module: Any, final: bool) -> None:
        """The work itself."""

    def publishes(self, module: Any) -> set[str] | None:
        """The names of the numbers that it publishes during training; None where it does not say."""
        return None

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Work when every_n_epochs divides the number of epochs done."""
        due = self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if due and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.measure(trainer, pl_module, final=False)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Work by the full protocol."""
        self.measure(trainer, pl_module, final=True)

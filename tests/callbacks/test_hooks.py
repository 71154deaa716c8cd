"""Hooks of a step that a callback does not define are passed over, and all others are called as ever."""

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import LambdaCallback

from lightning_gen.stages.quiet import STEP, drop_empty_hooks


class Recorded(Callback):
    """Records its calls of one hook."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def on_train_batch_end(self, trainer, *_):
        self.calls.append(trainer.global_step)


class Inherited(Recorded):
    """Defines none itself."""


def test_hooks_that_do_something_are_called_and_no_others(rows, known, make_trainer):
    begun: list[int] = []
    callbacks = [
        Callback(),
        Recorded(),
        Inherited(),
        LambdaCallback(on_train_batch_start=lambda trainer, *_: begun.append(trainer.global_step)),
    ]
    drop_empty_hooks(callbacks)
    make_trainer(*callbacks, max_epochs=2).fit(known(), rows())
    assert callbacks[1].calls == callbacks[2].calls == [step + 1 for step in begun] and len(begun) > 2
    left = [{name for name in STEP if getattr(callback, name) is not None} for callback in callbacks]
    assert left == [set(), {"on_train_batch_end"}, {"on_train_batch_end"}, {"on_train_batch_start"}]
    assert all(callable(getattr(callback, "on_train_start")) for callback in callbacks)  # noqa: B009

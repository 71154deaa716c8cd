"""Which numbers a run has and when; what waits for one that it has not, or not in time, is refused before any work."""

import math
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping

from lightning_gen.callbacks.measuring import measured_weights, measuring
from lightning_gen.families.by_hand import data_of
from lightning_gen.options import suggestion
from lightning_gen.results.result import Name

TRAINING = "train/loss"  # the mean since the last validation or epoch's end
VALIDATION = "val/loss"


def published(trainer: Trainer, module: LightningModule) -> dict[str, int | None]:
    """Name -> after how many epochs it comes (0: only when the run ends); "" -> None where a callback does not say."""
    known: dict[str, int | None] = {TRAINING: 1}
    if validates(trainer):
        known[str(Name(VALIDATION, None, measured_weights(module)))] = 1
    said = {callback: callback.publishes(module) for callback in measuring(trainer.callbacks)}
    for callback, names in said.items():
        known |= dict.fromkeys(map(str, names or ()), callback.every_n_epochs)
    packages = {type(callback).__module__.partition(".")[0] for callback in trainer.callbacks if callback not in said}
    if None in said.values() or packages - {"lightning_gen", "pytorch_lightning"}:
        known[""] = None  # somebody else's may publish anything
    return known


def validates(trainer: Trainer) -> bool:
    """Whether the run has validations; of others' data as Lightning says, which has their loaders by then."""
    if (data := data_of(trainer)) is None:
        return trainer.enable_validation
    return bool(len(data.split("val")) and trainer.limit_val_batches)


def check_early_stopping(trainer: Trainer, known: dict[str, int | None]) -> None:
    """ValueError where EarlyStopping looks for a number that the run will never have, or does not have yet.

    Between two measurements it would count the old value as one more without an improvement.
    """
    for callback in trainer.callbacks:
        if not isinstance(callback, EarlyStopping) or trainer.fast_dev_run:
            continue
        name, every = callback.monitor, known.get(callback.monitor)
        said = f"EarlyStopping.monitor is {name}"
        if every is None and None not in known.values():
            raise ValueError(f"{said}, {unmeasured(name, known)}")
        if every == 0:
            raise ValueError(f"{said}, measured only when the run ends: set its every_n_epochs")
        if every is None or name == TRAINING:
            continue
        checked = trainer.check_val_every_n_epoch
        if callback._check_on_train_epoch_end and (checked != 1 or trainer.val_check_interval != 1.0):
            raise ValueError(
                f"EarlyStopping.check_on_train_epoch_end is true, but {name} comes with a validation, which is not "
                "after each epoch: leave it out"
            )
        if every > 1 and (checked is None or checked % every):
            raise ValueError(
                f"{said}, which comes every {every} epochs, and it looks after each validation, every "
                f"{checked or 'few'}: write trainer.check_val_every_n_epoch={every}, or set its every_n_epochs to 1"
            )
        check_time(trainer, said, every)


def check_plateau(trainer: Trainer, module: LightningModule, known: dict[str, int | None]) -> None:
    """ValueError where ReduceLROnPlateau waits for a validation that the run will never have."""
    if trainer.fast_dev_run or not any(player.plateau for player in module.optimisation.players):
        return
    name = str(Name(VALIDATION, None, measured_weights(module)))
    if name not in known:
        raise ValueError(
            f"module.scheduler is ReduceLROnPlateau, which waits for {name}, and the run has no validation: give "
            "the data a val split and the trainer limit_val_batches, or choose another, such as CosineAnnealingLR"
        )
    check_time(trainer, f"module.scheduler is ReduceLROnPlateau, which waits for {name}", 1)


def check_time(trainer: Trainer, said: str, every: int | None) -> None:
    """ValueError, which begins as `said`, for a number of every so many epochs that comes only after the last one."""
    last, checked = epochs(trainer), trainer.check_val_every_n_epoch
    if every and last is not None and checked and trainer.val_check_interval == 1.0:
        first = math.lcm(every, checked)
        if first > last:
            raise ValueError(
                f"{said}, which first comes after epoch {first}, and the run has {last} whole epochs: train longer, or "
                f"lower trainer.check_val_every_n_epoch ({checked}) or its every_n_epochs ({every})"
            )


def unmeasured(name: str, names: Any) -> str:
    """What is said of a number that a run will not have: those that it has, in their order, and the nearest."""
    known = sorted(each for each in names if each)
    remedy = suggestion(name, known) or ("choose one of these" if known else "remove it")
    return f"but the run measures {', '.join(known) or 'nothing'}: {remedy}"


def epochs(trainer: Trainer) -> int | None:
    """How many whole epochs the run has; None where that is not known."""
    data = data_of(trainer)
    if data is None or trainer.limit_train_batches != 1.0:
        return None
    batches = len(data.split("train")) // data.batch_size
    limits = [trainer.max_epochs] if trainer.max_epochs not in (None, -1) else []
    limits += [trainer.max_steps * trainer.accumulate_grad_batches // batches] if trainer.max_steps != -1 else []
    return min(limits, default=None)

"""Where Lightning's training loop is between two batches, and how a checkpoint says it."""

from typing import Any

from pytorch_lightning import Trainer


def ends_here(trainer: Trainer) -> bool:
    """Whether training ends after this batch, and the validation that may follow it."""
    loop = trainer.fit_loop
    if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
        return True
    if trainer.should_stop and loop._can_stop_early:
        return True
    last_epoch = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= trainer.max_epochs
    return last_epoch and loop.epoch_loop._num_ready_batches_reached()


def validation_follows(trainer: Trainer) -> bool:
    """Whether all ranks run a validation after this batch: Lightning's own rule."""
    loop = trainer.fit_loop.epoch_loop
    follows = loop._should_check_val_fx(trainer.fit_loop._data_fetcher) and not loop.val_loop.skip
    return trainer.strategy.reduce_boolean_decision(follows, all=True)


def say_validation(loops: dict[str, Any], due: bool) -> None:
    """Change the loops' state of a checkpoint so that a resumed run begins with the validation if it is due.

    Lightning takes a checkpoint of an epoch's last batch for one after the validation. A validation that is due is
    therefore stored as one that was interrupted before its first batch.
    """
    validated = loops["epoch_loop.val_loop.batch_progress"]
    validated["total"] |= dict.fromkeys(("ready", "started"), validated["total"]["completed"] + due)
    if due:
        validated["current"] = dict.fromkeys(validated["current"], 0)
        batches = loops["epoch_loop.batch_progress"]
        for counts in (batches["total"], batches["current"]):
            counts["completed"] = counts["processed"]

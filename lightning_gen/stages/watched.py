"""Training and evaluation by several ranks, in the frame that ends them all where one is lost."""

import sys
import traceback
from collections.abc import Callable
from typing import Any

from lightning_gen.errors import ConfigError, NonFinite, Stopped
from lightning_gen.runs.devices import TIMEOUT, place
from lightning_gen.runs.watch import Watch, lost_connection, report

_met: list[Watch] = []  # this process's, from its first stage on: the ranks meet once


def watched(trainer: Any, config: dict[str, Any], call: Callable, *args: Any, **kwargs: Any) -> None:
    """Call; a rank that raises, is killed, stands still or never comes ends the job, named with its step.

    What the user can mend before the first batch, of which a session makes a ConfigError, is raised as it is.
    """
    from pytorch_lightning.callbacks import LambdaCallback

    here = place()
    if here.world == 1:
        return call(*args, **kwargs)

    if not _met:
        _met.append(meet(trainer, Watch(here, config.get("timeout", TIMEOUT))))
    watch = _met[0]
    steps = LambdaCallback(
        on_train_batch_start=lambda *_: watch.begin(f"step {trainer.global_step + 1}"),
        on_test_start=lambda *_: watch.begin(f"the evaluation after step {trainer.global_step}"),
    )
    trainer.callbacks.insert(0, steps)
    try:
        call(*args, **kwargs)
    except Stopped as stop:
        sentence = watch.stop(str(stop))
        if not sentence.startswith("stopped: "):
            watch.end(sentence)
        raise
    except Exception as error:
        mended = isinstance(error, ValueError | TypeError | FileNotFoundError) and not watch.working
        if mended or isinstance(error, ConfigError | NonFinite):
            watch.post(f"rank {here.rank} in {watch.where}: {error}")
            raise
        sentence = watch.fail(error)
        if not lost_connection(error):
            traceback.print_exc()
        watch.end(sentence)
    finally:
        trainer.callbacks.remove(steps)


def environment() -> Any:
    """Where this process stands, for Lightning, which must not look by itself: it takes salloc for srun."""
    from lightning_fabric.plugins.environments import LightningEnvironment

    from lightning_gen.stages.environment import Started

    return Started(here) if (here := place()).starter else LightningEnvironment()


def meet(trainer: Any, watch: Watch) -> Watch:
    """The watch, once all ranks have come."""
    try:
        watch.meet(trainer.strategy._get_process_group_backend(), trainer.strategy.root_device)
    except RuntimeError as error:
        report(str(error))
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    return watch

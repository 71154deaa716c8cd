"""What is not said on the terminal, and what Lightning is not to do by itself."""

import logging
import os
import sys
import warnings
from collections.abc import Iterable
from typing import Any

from lightning_gen import garbage
from lightning_gen.config.instantiate import refusing
from lightning_gen.runs.devices import process_rank


def quieten() -> None:
    """Leave out what Lightning says about itself; its warnings stay, but for those that this design makes untrue.

    Importing it takes long, so that a process says so before; of several the first one does. What a process starts
    with is then loaded, and garbage is collected from here on.
    """
    if "pytorch_lightning" not in sys.modules and refusing(process_rank) == 0:
        print("loading PyTorch and Lightning ...", flush=True)
    import pytorch_lightning  # noqa: F401  # sets its own level when it is imported
    import torch

    garbage.resume()
    if not torch.cuda.is_available():  # Lightning has every optimizer step search for the driver's library
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"

    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for asked in ("callbacks.model_summary", "profilers.profiler"):  # which say nothing unless the trainer has them
        logging.getLogger(f"pytorch_lightning.{asked}").setLevel(logging.INFO)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # of CUDA's tools without a GPU
    for untrue in (
        ".*overridden `on_before_batch_transfer`.*",  # it takes the batches of any loader, ours as they are
        ".*in eval mode at the start of training.*",  # the averaged model is, on purpose
        ".*smaller than the logging interval.*",  # steps are counted over epochs
        ".*requested to overfit but enabled.*",  # the loader repeats the order of its first epoch
        ".*isinstance.treespec, LeafSpec.*",  # Lightning's own use of torch
        ".*weights_only.*",
        ".*`srun` command is available.*",  # who starts one process on a machine of a cluster wants one
        ".*Total length of `list` across ranks is zero.*",  # a paper that trains on all of train
    ):
        warnings.filterwarnings("ignore", untrue)


# Lightning's hooks of a callback that it calls once or more a step.
STEP = ("on_train_batch_start", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
STEP += ("on_train_batch_end", "on_before_zero_grad")


def drop_empty_hooks(callbacks: Iterable[Any]) -> None:
    """Let Lightning pass over the hooks of a step that a callback does not define: each call takes time, and does
    nothing."""
    from pytorch_lightning import Callback

    for callback in callbacks:
        for name in STEP:
            if getattr(getattr(callback, name), "__func__", None) is getattr(Callback, name):
                setattr(callback, name, None)


def adapted(trainer: Any) -> Any:
    """The trainer, which passes over hooks that do nothing, and sets no signal handlers: they would replace ours, and
    broadcast from within a handler."""
    drop_empty_hooks(trainer.callbacks)
    trainer._signal_connector.register_signal_handlers = lambda: None
    return trainer

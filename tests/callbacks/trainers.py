"""Quiet trainers on the CPU, and as much of a trainer as measuring asks for."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from pytorch_lightning import Trainer


def trainer(folder: Path, callbacks: Any = (), **options: Any) -> Trainer:
    """A silent trainer with these callbacks, or one, or none, whose run folder is `folder`."""
    callbacks = list(callbacks) if isinstance(callbacks, list | tuple) else [] if callbacks is None else [callbacks]
    settings = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,
    }
    return Trainer(default_root_dir=folder, callbacks=callbacks, **settings | options)


class Alone:
    """Rank `rank` of `world`, which keeps what it would sum over the ranks."""

    def __init__(self, data: Any, module: Any = None, rank: int = 0, world: int = 1) -> None:
        self.datamodule, self.lightning_module, self.global_rank, self.world_size = data, module, rank, world
        self.is_global_zero, self.global_step, self.current_epoch = rank == 0, 7, 0
        self.fast_dev_run = False
        self.sanity_checking, self.strategy, self.progress_bar_callback = False, self, None
        self.state = SimpleNamespace(fn="fit")
        self.precision_plugin = SimpleNamespace(forward_context=lambda: torch.autocast("cpu", torch.bfloat16))

    def reduce(self, values: torch.Tensor, reduce_op: str) -> torch.Tensor:
        """What the ranks would sum, of this one alone."""
        assert reduce_op == "sum"
        self.rows = values.clone()
        return values

    def broadcast(self, value: Any) -> Any:
        """From rank 0."""
        return value

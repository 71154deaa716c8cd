"""The exact log-likelihood of a normalised density over whole numbers, in nats and in bits/dim."""

import math
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.callbacks.likelihood.base import PerSample
from lightning_gen.models import Normalised
from lightning_gen.results.result import Name, Result


class ExactLikelihood(PerSample):
    """exact/log_likelihood, nats, and exact/bits_per_dim of `n` samples of a split (null = all): log p(x) as it is.

    x is a whole number of K levels, so that p(x) is a probability: no dequantisation. The protocol names K: bits/dim of
    unlike K are of unlike data. The error is the standard error over the split.
    """

    needs = (Normalised,)
    supports = ("binary", "levels")
    what = "log-likelihood"
    purpose = "exact"
    columns = 1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.binarise = trainer.datamodule.binarise

    def publishes(self, module: Any) -> set[Name]:
        return {Name(f"exact/{name}", None, self.measured(module)) for name in ("log_likelihood", "bits_per_dim")}

    def work(self, module: Any) -> int:
        return 1

    def block(self, module: Any, model: Normalised, x: Tensor, noise: torch.Generator, progress: Callable) -> Tensor:
        """log p(x), (m, 1)."""
        nats = model.log_prob(x)
        progress()
        return nats.unsqueeze(1)

    def results(self, module: Any, rows: Tensor, n: int, fingerprint: str) -> list[Result]:
        protocol = {
            **self.protocol(module, n, fingerprint),
            "binarisation": self.binarise or "none",
            "dequantisation": "none",
            "levels": module.model.support.levels,
        }
        nats, which = rows[:, 0], self.measured(module)
        bits = -nats / math.prod(module.shape) / math.log(2)
        return [
            Result.of_mean(nats, "exact", "nats", protocol, Name("exact/log_likelihood", None, which)),
            Result.of_mean(bits, "exact", "bits/dim", protocol, Name("exact/bits_per_dim", None, which)),
        ]

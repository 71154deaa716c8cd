"""Log-likelihoods of normalised densities: exact of points and of whole levels, bounds of dequantised images."""

import math
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.callbacks.likelihood.base import PerSample
from lightning_gen.likelihood.dequantise import bin_width, bins_protocol
from lightning_gen.models import Normalised
from lightning_gen.options import Count
from lightning_gen.results.result import Name, Result


class ExactLikelihood(PerSample):
    """exact/log_likelihood, nats, of `n` samples of a split (null = all), by the model's own log p.

    Of points it is exact, with the standard error over the samples. Data of K levels also have exact/bits_per_dim, and
    the protocol names K: bits/dim of unlike K are of unlike data. A probability of levels is exact. A density of real
    numbers dequantises them, `draws` times each, by the model's own q(y|x): the mean of log p(y) - log q(y|x) is a
    lower bound on log P(image), bits/dim are an upper bound, and nats are those of the density in model space.
    Flow++ (Ho et al., 2019), eq. 12, https://arxiv.org/abs/1902.00275

    Args:
        draws: dequantisations of an image, >= 1.
        options: those of PerSample.
    """

    needs = (Normalised,)
    what = "log-likelihood"
    purpose = "exact"
    columns = 1

    def __init__(self, draws: Count = 1, **options: Any) -> None:
        super().__init__(**options)
        self.draws = draws

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.binarise = trainer.datamodule.binarise

    def publishes(self, module: Any) -> set[Name]:
        quantities = ("log_likelihood", *([] if module.model.levels is None else ["bits_per_dim"]))
        return {Name(f"exact/{quantity}", None, self.measured(module)) for quantity in quantities}

    def work(self, module: Any) -> int:
        """Draws of an x: one where it is not dequantised."""
        return 1 if module.model.dequantisation == "none" else self.draws

    def block(self, module: Any, model: Normalised, x: Tensor, noise: torch.Generator, progress: Callable) -> Tensor:
        """Mean of log p(y) - log q(y|x) over the draws, nats, (m, 1)."""
        total, draws = torch.zeros(len(x), 1, dtype=torch.float64, device=x.device), self.work(module)
        for _ in range(draws):
            y, log_q = model.dequantise(x, noise)
            total += (model.log_prob(y) - log_q).double().unsqueeze(1)
            progress()
        return total / draws

    def results(self, module: Any, rows: Tensor, n: int, fingerprint: str) -> list[Result]:
        model, d, nats, which = module.model, math.prod(module.shape), rows[:, 0], self.measured(module)
        protocol = {
            **self.protocol(module, n, fingerprint),
            "binarisation": self.binarise or "none",
            "dequantisation": model.dequantisation,
            "draws": self.work(module),
            "sigma": model.noise_level(),
        }
        name = Name("exact/log_likelihood", None, which)
        if model.levels is None:
            return [Result.of_mean(nats, "exact", "nats", protocol, name)]
        protocol["levels"] = model.levels
        bits, kinds = -nats / d / math.log(2), ("exact", "exact")
        if model.dequantisation != "none":
            nats = nats - d * math.log(bin_width(module.value_range, model.levels))
            protocol |= bins_protocol(module.value_range, model.levels)
            kinds = ("lower bound", "upper bound")
        return [
            Result.of_mean(nats, kinds[0], "nats", protocol, name),
            Result.of_mean(bits, kinds[1], "bits/dim", protocol, Name("exact/bits_per_dim", None, which)),
        ]

"""Lower bounds on log p(x) of latent-variable models, by importance sampling, in nats and in bits/dim."""

import math
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.callbacks.likelihood.base import PerSample
from lightning_gen.likelihood import bits_per_dim, bounds, dequantised
from lightning_gen.likelihood.importance import draws_per_pass, log_weights
from lightning_gen.models import BINARY, Encoded
from lightning_gen.options import Count
from lightning_gen.results.result import Name, Result

TOGETHER = 10_000  # latent vectors decoded at once


class ImportanceLikelihood(PerSample):
    """iwae/log_likelihood by `samples` weights an image, and elbo/log_likelihood, nats, of `n` samples of a split.

    Both are lower bounds in expectation, the first the tighter one. The protocol has the effective sample size of the
    weights: where it is near 1, more samples would still raise the bound. Errors are standard errors over the split.
    Images that are not binarised are dequantised: nats are of the density in model space, and bits_per_dim stand
    beside them, upper bounds on -log2 P(image) / dim; binarised images have bits_per_dim of their probability.
    Importance weighted autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
    """

    needs = (Encoded,)
    what = "importance weights"
    purpose = "importance"
    columns = 3

    def __init__(self, samples: Count = 500, batch: Count = 100, **options: Any) -> None:
        super().__init__(batch=batch, **options)
        self.samples = samples

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if pl_module.value_range is None and len(pl_module.shape) == 3:
            raise ValueError("callbacks.likelihood dequantises images in data.value_range, got null: write the range")
        self.binarise = trainer.datamodule.binarise

    def publishes(self, module: Any) -> set[Name]:
        quantities = ("log_likelihood", *(["bits_per_dim"] if module.value_range is not None else []))
        return {Name(f"{head}/{name}", None, self.measured(module)) for head in ("iwae", "elbo") for name in quantities}

    def spread(self, module: Any) -> bool:
        """Whether x is dequantised."""
        return module.model.support != BINARY and module.value_range is not None

    def work(self, module: Any) -> int:
        return len(draws_per_pass(self.samples, self.batch, TOGETHER))

    def block(self, module: Any, model: Encoded, x: Tensor, noise: torch.Generator, progress: Callable) -> Tensor:
        """IWAE's bound, the evidence lower bound, and the effective sample size, (m, 3)."""
        if self.spread(module):
            x = dequantised(x, module.value_range, noise)
        together = TOGETHER // self.batch * len(x) if self.batch <= TOGETHER else len(x)
        bound = bounds(log_weights(model, x, self.samples, noise, together, progress))
        return torch.stack([bound.iwae, bound.elbo, bound.ess], dim=1)

    def results(self, module: Any, rows: Tensor, n: int, fingerprint: str) -> list[Result]:
        d, spread = math.prod(module.shape), self.spread(module)
        protocol = {
            **self.protocol(module, n, fingerprint),
            "samples": self.samples,
            "ess": rows[:, 2].mean().item(),
            "ess_least": rows[:, 2].min().item(),
            "likelihood": module.model.likelihood,
            "binarisation": self.binarise or "none",
            "dequantisation": "uniform" if spread else "none",
            "bounds": "in expectation over the draws",
        }
        results = []
        for column, method in enumerate(("iwae", "elbo")):
            nats = rows[:, column]
            name = Name(f"{method}/log_likelihood", None, self.measured(module))
            results.append(Result.of_mean(nats, "lower bound", "nats", protocol, name))
            if module.value_range is not None:
                bits = bits_per_dim(nats, d, module.value_range) if spread else -nats / d / math.log(2)
                levels = {**protocol, "levels": 256 if spread else 2}
                error = results[-1].error / d / math.log(2)
                name = Name(f"{method}/bits_per_dim", None, self.measured(module))
                results.append(Result(bits.mean().item(), "upper bound", error, "bits/dim", levels, name=name))
        return results

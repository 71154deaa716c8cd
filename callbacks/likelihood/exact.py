"""Log-likelihoods of normalised densities: exact of points and of whole levels, bounds of dequantised images."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_gen.callbacks.likelihood.base import PerSample
from lightning_gen.likelihood import bits_per_dim
from lightning_gen.models import Normalised
from lightning_gen.options import Count
from lightning_gen.results.result import Name, Result


class ExactLikelihood(PerSample):
    """exact/log_likelihood, nats, of `n` samples of a split (null = all), by the model's own log p.

    Of points it is exact, with the standard error over the samples. Images are dequantised, `draws` times each, by the
    model's own q(y|x): the mean of log p(y) - log q(y|x) is then a lower bound on log P(image), and exact/bits_per_dim,
    an upper bound, stands beside the nats, which are those of a density in model space.
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

    def publishes(self, module: Any) -> set[Name]:
        quantities = ("log_likelihood", *(["bits_per_dim"] if self.spread(module) else []))
        return {Name(f"exact/{quantity}", None, self.measured(module)) for quantity in quantities}

    @staticmethod
    def spread(module: Any) -> bool:
        """Whether x is dequantised."""
        return module.model.dequantisation != "none"

    def repeats(self, module: Any) -> int:
        """Draws of an x: one where it is not dequantised."""
        return self.draws if self.spread(module) else 1

    def work(self, module: Any) -> int:
        return self.repeats(module)

    def block(self, module: Any, model: Normalised, x: Tensor, noise: torch.Generator, progress: Callable) -> Tensor:
        """Mean of log p(y) - log q(y|x) over the draws, nats, (m, 1)."""
        total = torch.zeros(len(x), 1, dtype=torch.float64, device=x.device)
        for _ in range(self.repeats(module)):
            y, log_q = model.dequantise(x, noise)
            total += (model.log_prob(y) - log_q).double().unsqueeze(1)
            progress()
        return total / self.repeats(module)

    def results(self, module: Any, rows: Tensor, n: int, fingerprint: str) -> list[Result]:
        d, nats, spread = math.prod(module.shape), rows[:, 0], self.spread(module)
        protocol = {
            **self.protocol(module, n, fingerprint),
            "dequantisation": module.model.dequantisation,
            "draws": self.repeats(module),
            "sigma": module.model.noise_level(),
        }
        name = Name("exact/log_likelihood", None, self.measured(module))
        if not spread:
            return [Result.of_mean(nats, "exact", "nats", protocol, name)]
        bits = -nats / d / math.log(2)  # of P(image)
        nats = nats - d * math.log(module.model.dequantiser.width)
        assert torch.allclose(bits, bits_per_dim(nats, d, module.value_range))
        return [
            Result.of_mean(nats, "lower bound", "nats", protocol, name),
            Result.of_mean(
                bits,
                "upper bound",
                "bits/dim",
                {**protocol, "levels": 256},
                Name("exact/bits_per_dim", None, self.measured(module)),
            ),
        ]

"""What sample metrics are computed from, and all of them at once."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lightning_gen.metrics.reference import Reference
from lightning_gen.metrics.registry import Measured, Metric, metrics
from lightning_gen.randomness import generator


class Options(NamedTuple):
    """The options of the metrics; see Quality."""

    kid_subsets: int = 100
    kid_subset_size: int = 1000
    kid_pairs: Literal["subsets", "all"] = "subsets"
    neighbours: int = 3
    density_neighbours: int = 5
    at_most: int = 10_000
    alpha: float = 0.05
    resamples: int = 50

    def least(self, names: Sequence[str]) -> int:
        """The fewest images that these metrics take."""
        return max(metrics()[name].least(self) for name in names)


class Evaluation(NamedTuple):
    """Features of samples (n, d) and logits (n, K) or None, the reference that they are compared with, and, for
    memorisation, the features of the training and of the held-out images. Draws depend on the seed alone."""

    features: Tensor
    logits: Tensor | None
    real: Reference
    memory: tuple[Reference, Reference] | None = None
    options: Options = Options()
    seed: int = 0

    def draw(self, *purpose: str) -> torch.Generator:
        """The generator of a purpose."""
        return generator(self.seed, "subset", *purpose)

    def scarce(self) -> tuple[str, ...]:
        """A flag for each covariance that has fewer images than dimensions."""
        counts = {"images": len(self.features), "reference images": len(self.real.features)}
        d = self.features.shape[1]
        return tuple(
            f"fewer {name} ({count:,}) than dimensions ({d:,})" for name, count in counts.items() if count <= d
        )

    def has(self, metric: Metric) -> bool:
        """Whether there is what the metric needs."""
        return {"features": True, "logits": self.logits is not None, "memory": self.memory is not None}[metric.needs]

    def measure(self, names: Sequence[str]) -> dict[str, Measured]:
        """Those of the metrics that can be computed, by name; a function that gives several is called once."""
        chosen = [metrics()[name] for name in names if self.has(metrics()[name])]
        measured: dict[str, Measured] = {}
        for function in dict.fromkeys(metric.function for metric in chosen):
            own = [metric for metric in chosen if metric.function is function]
            values = function(self)
            values = values if isinstance(values, dict) else {own[0].quantity.name: values}
            measured |= {name: values[name] for metric in own for name in metric.gives}
        return measured

"""Features that samples are measured by, and a metric, which importing this module registers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_gen.metrics.evaluation import Evaluation
from lightning_gen.metrics.features.base import FeatureExtractor
from lightning_gen.metrics.registry import Measured, metric


class PolarFeatures(FeatureExtractor):
    """(r, cos a, sin a) of points in the plane."""

    name, dim = "polar", 3

    def prepare(self, data: Any, rank: int = 0, broadcast: Callable[[Any], Any] | None = None) -> None:
        """Nothing to make."""

    def extract(self, images: Tensor) -> tuple[Tensor, None]:
        """Features (B, 3) of points (B, 2)."""
        radius = torch.linalg.vector_norm(images.float(), dim=1, keepdim=True)
        return torch.cat([radius, images.float() / radius.clamp(min=1e-6)], dim=1), None

    def identity(self) -> dict[str, Any]:
        """The name says it all."""
        return {"features": self.name}


@metric("radius_gap", "radius gap", "lower")
def radius_gap(evaluation: Evaluation) -> Measured:
    """|mean radius of the samples - mean radius of the reference|, the first of the polar features."""
    radius, real = evaluation.features[:, 0].double(), evaluation.real.features[:, 0].double()
    error = float((radius.var() / len(radius) + real.var() / len(real)).sqrt())
    return Measured(float((radius.mean() - real.mean()).abs()), error)

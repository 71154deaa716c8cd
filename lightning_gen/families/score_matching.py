"""Score matching: the score of the data, or of the data at one noise level."""

from collections.abc import Callable
from typing import Any, Literal

from torch import nn

from lightning_gen.families.base import GenerativeModule
from lightning_gen.losses import DenoisingScoreMatching, ExactScoreMatching, SlicedScoreMatching, constant
from lightning_gen.models import EnergyNetwork, ScoreNetwork
from lightning_gen.options import Count, NonNegative
from lightning_gen.process import VE, Clean


class ScoreMatching(GenerativeModule):
    """s(x) = net(x), or -grad E(x), of data with noise N(0, sigma^2 I), by score matching.

    Exact (Hyvarinen, 2005), https://jmlr.org/papers/v6/hyvarinen05a.html; sliced (Song et al., 2019),
    https://arxiv.org/abs/1905.07088; denoising (Vincent, 2011), https://doi.org/10.1162/NECO_a_00142

    Args:
        net: the network, like x, or (B,) for an energy.
        method: exact, sliced or denoising (weighted by sigma^2).
        model: score, the network itself; or energy, -grad of a readout of the network.
        readout: E is x^T f (product), 1/2 ||x - f||^2 (reconstruction) or 1/2 ||f||^2 (norm).
        sigma: standard deviation of the noise, in units of the data, >= 0; denoising needs sigma > 0.
        projections, projection, reduced_variance: those of SlicedScoreMatching.
        optimizer, options: those of GenerativeModule.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable,
        method: Literal["exact", "sliced", "denoising"] = "denoising",
        model: Literal["score", "energy"] = "score",
        readout: Literal["product", "reconstruction", "norm"] = "reconstruction",
        sigma: NonNegative = 0.0,
        projections: Count = 1,
        projection: Literal["rademacher", "gaussian"] = "rademacher",
        reduced_variance: bool = True,
        **options: Any,
    ) -> None:
        if sigma == 0 and method == "denoising":
            raise ValueError(
                f"module.sigma is {sigma} with method denoising, expected sigma > 0: increase it, or choose sliced"
            )
        losses = {
            "exact": ExactScoreMatching,
            "sliced": lambda: SlicedScoreMatching(projections, reduced_variance, projection),
            "denoising": lambda: DenoisingScoreMatching(constant(0.0), "simple", "sum"),
        }
        process = VE(sigma, sigma) if sigma > 0 else Clean()
        scored = ScoreNetwork(net, process) if model == "score" else EnergyNetwork(net, process, readout)
        super().__init__(model=scored, loss=losses[method](), optimizer=optimizer, **options)

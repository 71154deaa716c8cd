"""Score matching as a recipe: the score of the data themselves, or of the data at one noise level."""

from collections.abc import Callable
from typing import Any, Literal

from torch import nn

from lightning_gen.families.base import GenerativeModule
from lightning_gen.losses import DenoisingScoreMatching, ExactScoreMatching, SlicedScoreMatching, constant
from lightning_gen.models import EnergyNetwork, ScoreNetwork
from lightning_gen.options import Count, NonNegative
from lightning_gen.process import VE, Clean


class ScoreMatching(GenerativeModule):
    """s(x) = net(x), or -grad E(x), by exact (Hyvarinen, 2005), sliced (Song et al., 2019) or denoising (Vincent, 2011)
    score matching.

    sigma = 0 is the score of the data, which denoising cannot learn; sigma > 0 that of x + sigma noise. Denoising is
    weighted by sigma^2, which makes one level's loss independent of its scale. `options` are GenerativeModule's.
    https://jmlr.org/papers/v6/hyvarinen05a.html, https://arxiv.org/abs/1905.07088, https://doi.org/10.1162/NECO_a_00142
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
                f"module.sigma is {sigma}, and method denoising learns the score of noised data: give sigma > 0"
            )
        losses = {
            "exact": ExactScoreMatching,
            "sliced": lambda: SlicedScoreMatching(projections, reduced_variance, projection),
            "denoising": lambda: DenoisingScoreMatching(constant(0.0), "simple", "sum"),
        }
        process = VE(sigma, sigma) if sigma > 0 else Clean()
        scored = ScoreNetwork(net, process) if model == "score" else EnergyNetwork(net, process, readout)
        super().__init__(model=scored, loss=losses[method](), optimizer=optimizer, **options)

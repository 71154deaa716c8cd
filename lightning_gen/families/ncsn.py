"""NCSN: denoising score matching at geometric noise levels, whose number and range may follow from the data."""

import math
from collections.abc import Callable
from typing import Annotated, Any

import torch
from annotated_types import Ge
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

from lightning_gen.families.base import GenerativeModule
from lightning_gen.losses import DenoisingScoreMatching, levels
from lightning_gen.models import Denoiser
from lightning_gen.options import OpenUnitInterval, Positive, Rate
from lightning_gen.process import VE

MAX_COMPARED = 5000  # samples between which all distances are computed


class NCSN(GenerativeModule):
    """1/(2 L) sum_i sigma_i^2 E||s(x + sigma_i z, sigma_i) + z / sigma_i||^2, sigma_1 > ... > sigma_L geometric.

    The network's input is 999 t, t linear in log sigma, its output -sigma s (technique 3 of NCSNv2).
    NCSN (Song & Ermon, 2019), https://arxiv.org/abs/1907.05600, with 10 levels from 1 to 0.01; NCSNv2 (Song & Ermon,
    2020), https://arxiv.org/abs/2006.09011

    Args:
        net: the network, (x, t) -> -sigma s, like x.
        noise_levels: L, >= 2; null for the smallest number whose neighbours overlap by `overlap` (technique 2).
        sigma_min: smallest noise level, in units of the data, > 0.
        sigma_max: largest noise level; null for the largest distance between training samples (technique 1).
        overlap: probability mass that neighbouring levels share, in (0, 1).
        optimizer, ema_decay, options: those of GenerativeModule.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable,
        noise_levels: Annotated[int, Ge(2)] | None = None,
        sigma_min: Positive = 0.01,
        sigma_max: Positive | None = None,
        overlap: OpenUnitInterval = 0.5,
        ema_decay: Rate | None = 0.999,
        **options: Any,
    ) -> None:
        if noise_levels is None or sigma_max is None:
            raise ValueError(
                f"module.noise_levels is {noise_levels} and module.sigma_max {sigma_max}, expected numbers: write "
                "them, or train by run.py, which computes them from the data"
            )
        model = Denoiser(net, VE(sigma_min, sigma_max, levels=noise_levels), "noise")
        loss = DenoisingScoreMatching(levels(noise_levels, first=0), "simple", "sum")
        super().__init__(model=model, loss=loss, optimizer=optimizer, ema_decay=ema_decay, **options)

    @classmethod
    def fitted(cls, config: dict[str, Any], data: Any) -> dict[str, Any]:
        """noise_levels and sigma_max where the config has null; prints the reason for each."""
        sigma_max, count = config.get("sigma_max"), config.get("noise_levels")
        sigma_min, overlap = config.get("sigma_min", 0.01), config.get("overlap", 0.5)
        if sigma_max is not None and count is not None:
            return {}
        report = rank_zero_only(print)
        data.prepare_data()
        data.setup()
        split = data.split("train")
        if sigma_max is None:
            x = data.encode(split.take(slice(None)))
            sigma_max, compared = largest_distance(x.flatten(1))
            sigma_max = float(f"{sigma_max:.4g}")  # equal on all hardware
            report(f"sigma_max = {sigma_max}: the largest distance between two of {compared} training samples")
        d = math.prod(split.shape)
        if count is None:
            count = number_of_levels(sigma_min, sigma_max, d, overlap)
            ratio = (sigma_max / sigma_min) ** (1 / (count - 1))
            report(
                f"noise_levels = {count}: from {sigma_max} to {sigma_min} by the ratio {ratio:.4f}, at which neighbours"
                f" in {d} dimensions overlap by C = {overlap_of(ratio, d):.3f}, at least {overlap}"
            )
        return {"sigma_max": sigma_max, "noise_levels": count}


def largest_distance(x: Tensor, most: int = MAX_COMPARED) -> tuple[float, str]:
    """max ||x_i - x_j|| over rows of x (n, d), and the rows compared: all, or the `most` farthest from the mean."""
    compared = f"all {len(x)}"
    if len(x) > most:
        x = x[(x - x.mean(0)).square().sum(1).topk(most).indices]
        compared = f"the {most} farthest from the mean"
    x = x.double()
    return max(float(torch.cdist(rows, x).max()) for rows in x.split(500)), compared


def overlap_of(ratio: float, d: int) -> float:
    """C = Phi(sqrt(2 d)(ratio - 1) + 3 ratio) - Phi(sqrt(2 d)(ratio - 1) - 3 ratio): the probability that a radius
    at one level lies within three standard deviations of the next. NCSNv2 (Song & Ermon, 2020), proposition 2."""

    def normal(z: float) -> float:
        return 0.5 * math.erfc(-z / math.sqrt(2))

    shift = math.sqrt(2 * d) * (ratio - 1)
    return normal(shift + 3 * ratio) - normal(shift - 3 * ratio)


def number_of_levels(sigma_min: float, sigma_max: float, d: int, overlap: float = 0.5) -> int:
    """Smallest L >= 2 for which neighbours of L geometric levels overlap by at least `overlap` in d dimensions."""
    if not 0 < sigma_min < sigma_max or not 0 < overlap < 1:
        raise ValueError(
            f"module.sigma_min is {sigma_min}, sigma_max {sigma_max}, overlap {overlap}, expected 0 < sigma_min < "
            "sigma_max and 0 < overlap < 1: change them"
        )
    low, high = 1.0, 2.0 + 3 / math.sqrt(d)
    while overlap_of(high, d) > overlap:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if overlap_of(middle, d) >= overlap else (low, middle)
    return max(2, 1 + math.ceil(math.log(sigma_max / sigma_min) / math.log(low) - 1e-9))

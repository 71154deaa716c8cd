"""EDM: a variance-exploding process, a preconditioned denoiser, and log-normal noise levels."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from lightning_gen.families.base import GenerativeModule
from lightning_gen.losses import DenoisingScoreMatching, lognormal
from lightning_gen.losses import edm as weight
from lightning_gen.models import Denoiser
from lightning_gen.models.denoiser import edm
from lightning_gen.options import Finite, Positive, Rate
from lightning_gen.process import VE

MEASURED = 512  # training samples by which sigma_data is judged
FAR = 1.25  # the factor from which on it is another data set's


class EDM(GenerativeModule):
    """D(x, sigma) = c_skip x + c_out F(c_in x, ln(sigma) / 4), ln sigma ~ N(log_mean, log_std^2), weight 1 / c_out^2.

    Elucidating the design space of diffusion-based generative models (Karras et al., 2022), table 1,
    https://arxiv.org/abs/2206.00364

    Args:
        net: the network F(x, t), like x.
        sigma_data: standard deviation of all values of the data, in model space, > 0; a new run warns where that of the
            training data is another by a quarter.
        log_mean: mean of ln sigma in training.
        log_std: standard deviation of ln sigma in training, > 0.
        sigma_min: smallest noise level in sampling, > 0.
        sigma_max: largest noise level in sampling, > 0.
        optimizer, ema_decay, options: those of GenerativeModule.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable,
        sigma_data: Positive = 0.5,
        log_mean: Finite = -1.2,
        log_std: Positive = 1.2,
        sigma_min: Positive = 0.002,
        sigma_max: Positive = 80.0,
        ema_decay: Rate | None = 0.9999,
        **options: Any,
    ) -> None:
        process = VE(sigma_min, sigma_max)
        model = Denoiser(net, process, partial(edm, sigma_data=sigma_data))
        loss = DenoisingScoreMatching(lognormal(process, log_mean, log_std), weight(sigma_data), "mean")
        super().__init__(model=model, loss=loss, optimizer=optimizer, ema_decay=ema_decay, **options)
        self.sigma_data = sigma_data

    def initialise(self, data: Any) -> None:
        """Warn where sigma_data is not that of the training data, from which it scales what the network sees."""
        found = float(data.encode(data.split("train").take(slice(0, MEASURED))).double().std())
        if self.global_rank == 0 and not found / FAR < self.sigma_data < found * FAR:
            print(
                f"warning: module.sigma_data is {self.sigma_data:g}, but the training data have a deviation of "
                f"{found:.2g}: write module.sigma_data={found:.2g}",
                file=sys.stderr,
            )

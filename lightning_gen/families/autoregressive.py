"""Autoregressive models trained by maximum likelihood."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_gen import models
from lightning_gen.families.base import GenerativeModule
from lightning_gen.families.players import Batch
from lightning_gen.losses import NegativeLogLikelihood
from lightning_gen.models import Model
from lightning_gen.nets import Causal


class Autoregressive(GenerativeModule):
    """log p(x) = sum_i log p(x_i | x_<i) over binary values or whole numbers, trained by -log p(x).

    With several orderings each batch has one, drawn at random: E_k[-log p_k(x)], which bounds -log mean_k p_k(x) from
    above. MADE (Germain et al., 2015), https://arxiv.org/abs/1502.03509; Gated PixelCNN (van den Oord et al., 2016),
    https://arxiv.org/abs/1606.05328

    Args:
        net: MADE, PixelCNN or CausalTransformer.
        optimizer, options: those of GenerativeModule.
    """

    def __init__(self, net: Causal, optimizer: Callable, **options: Any) -> None:
        super().__init__(model=models.Autoregressive(net), loss=NegativeLogLikelihood(), optimizer=optimizer, **options)

    def objective(self, model: Model, batch: Batch, noise: torch.Generator, step: int) -> Tensor:
        """-log p of one ordering, nats, (B,)."""
        if model.net.orderings == 1:
            return super().objective(model, batch, noise, step)
        ordering = int(torch.randint(model.net.orderings, (), generator=noise, device=noise.device))
        return -model.log_conditionals(batch["x"], ordering).sum(1)

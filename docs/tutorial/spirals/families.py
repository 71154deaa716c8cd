"""A family: which model, which loss; training, averages and sampling are the base's."""

from collections.abc import Callable
from typing import Any

from torch import nn

from lightning_gen.families import GenerativeModule
from lightning_gen.losses import Loss
from lightning_gen.models import Denoiser
from lightning_gen.process import VP


class Robust(GenerativeModule):
    """Velocity = net(x, t) on VP noise, by any loss.

    Args:
        loss: as PseudoHuber.
        options: GenerativeModule's.
    """

    def __init__(self, net: nn.Module, optimizer: Callable, loss: Loss, **options: Any) -> None:
        super().__init__(model=Denoiser(net, VP(), "velocity"), loss=loss, optimizer=optimizer, **options)

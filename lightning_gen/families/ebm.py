"""Deep energy-based models: an energy network and a loss."""

from collections.abc import Callable
from typing import Any, Literal

from torch import nn

from lightning_gen.families.chains import Chains
from lightning_gen.losses import Loss
from lightning_gen.models import EnergyNetwork
from lightning_gen.options import NonNegative, Positive
from lightning_gen.process import VE, Clean


class EBM(Chains):
    """p(x) = exp(-E(x)) / Z, E a readout of a network.

    How to train your energy-based models (Song & Kingma, 2021), https://arxiv.org/abs/2101.03288

    Args:
        net: the network f(x), like x, or (B,) for the readout scalar.
        loss: contrastive divergence, NCE, or exact, sliced or denoising score matching.
        readout, confine, constant, scale: those of EnergyNetwork; NCE needs the constant, a likelihood a confining
            term.
        sigma: standard deviation of the noise on the data, >= 0; denoising needs noise.
        optimizer, options: those of GenerativeModule.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: Loss,
        optimizer: Callable,
        readout: Literal["product", "reconstruction", "norm", "scalar"] = "reconstruction",
        confine: Positive | None = None,
        constant: bool = False,
        sigma: NonNegative = 0.0,
        scale: Positive = 1.0,
        **options: Any,
    ) -> None:
        process = VE(sigma, sigma) if sigma > 0 else Clean()
        model = EnergyNetwork(net, process, readout, confine, constant, scale)
        super().__init__(model=model, loss=loss, optimizer=optimizer, **options)

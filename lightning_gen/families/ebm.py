"""Deep energy-based models as a recipe: an energy network, and any loss that can train one."""

from collections.abc import Callable
from typing import Any, Literal

from torch import nn

from lightning_gen.families.chains import Chains
from lightning_gen.losses import Loss
from lightning_gen.models import EnergyNetwork
from lightning_gen.options import NonNegative, Positive
from lightning_gen.process import VE, Clean


class EBM(Chains):
    """p(x) = exp(-E(x)) / Z, E a readout of a network, trained by `loss`: ContrastiveDivergence with Langevin chains,
    NCE, exact, sliced or denoising score matching.

    sigma > 0 makes E that of data with noise of this deviation, which denoising needs. `confine` adds
    1/2 ||x||^2 / confine^2, without which no likelihood is given. `constant` adds a learned number, which NCE needs.
    `options` are GenerativeModule's. How to train your EBMs (Song & Kingma, 2021), https://arxiv.org/abs/2101.03288
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
        **options: Any,
    ) -> None:
        process = VE(sigma, sigma) if sigma > 0 else Clean()
        model = EnergyNetwork(net, process, readout, confine, constant)
        super().__init__(model=model, loss=loss, optimizer=optimizer, **options)

"""Normalising flows: an invertible network, trained by likelihood or by any other loss on its density."""

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from lightning_gen import models
from lightning_gen.families.chains import Chains
from lightning_gen.losses import Loss, NegativeLogLikelihood
from lightning_gen.nets.flows import FlowNetwork, Logit, UniformDequantiser, VariationalDequantiser
from lightning_gen.options import Levels, NonNegative, OpenUnitInterval, Shape, ValueRange
from lightning_gen.process import VE, Clean
from lightning_gen.randomness import generator

INITIAL = 512  # training samples by which ActNorm is initialised, at most


class Flow(Chains):
    """log p(x) = log N(f(x); 0, I) + log |det df/dx|, f an invertible network.

    ActNorm is initialised once, by the same training samples on every rank, before the first step of a new run.
    Normalizing flows (Papamakarios et al., 2021), https://arxiv.org/abs/1912.02762

    Args:
        net: the invertible network f.
        loss: any loss on a normalised density, as NCE; null for the likelihood.
        dequantisation: of images, noise that makes whole levels real: uniform or variational; null for points.
        logit: a of the logit of a + (1 - 2a) u, u in [0, 1] the image, in (0, 1/2); null for none.
        sigma: standard deviation of the noise on the data, >= 0; denoising score matching needs noise.
        levels: of dequantised images, the number K of values that a pixel may have, >= 2; follows from the data.
        shape, value_range: of the data, those of GenerativeModule.
        optimizer, options: those of GenerativeModule.
    """

    def __init__(
        self,
        net: FlowNetwork,
        optimizer: Callable,
        loss: Loss | None = None,
        dequantisation: Literal["uniform", "variational"] | None = None,
        logit: OpenUnitInterval | None = None,
        sigma: NonNegative = 0.0,
        levels: Levels = 256,
        shape: Shape | None = None,
        value_range: ValueRange | None = None,
        **options: Any,
    ) -> None:
        if value_range is None:
            for key, value in (("dequantisation", dequantisation), ("logit", logit)):
                if value is not None:
                    raise ValueError(f"module.{key} is {value} for data without a range, expected null: write null")
        dequantiser = None
        if dequantisation == "uniform":
            dequantiser = UniformDequantiser(value_range, levels)
        elif dequantisation == "variational":
            dequantiser = VariationalDequantiser(value_range, net.shape, levels=levels)
        process = VE(sigma, sigma) if sigma > 0 else Clean()
        model = models.Flow(net, process, dequantiser, None if logit is None else Logit(value_range, logit, levels))
        loss = NegativeLogLikelihood() if loss is None else loss
        super().__init__(model=model, loss=loss, optimizer=optimizer, shape=shape, value_range=value_range, **options)

    @classmethod
    def fitted(cls, config: dict[str, Any], data: Any) -> dict[str, Any]:
        """levels, the number K of values that a pixel of the data may have, where the config has none."""
        return {} if config.get("levels") is not None or data.levels is None else {"levels": data.levels}

    def check_data(self, data: Any) -> None:
        """ValueError for images without dequantisation: a density at whole levels grows without bound."""
        super().check_data(data)
        if data.value_range is not None and self.model.dequantiser is None:
            raise ValueError(
                f"module.dequantisation is null for {data.name}, images of whole levels, on which a density grows "
                "without bound; expected uniform or variational: write one"
            )
        if data.binarise is not None:
            raise ValueError(
                f"data.binarise is {data.binarise} for a flow, whose grey levels are dequantised, expected null: "
                "write null"
            )
        if self.model.levels not in (None, data.levels):
            raise ValueError(
                f"module.levels is {self.model.levels} for {data.name}, expected {data.levels}, the number of values "
                f"of its pixels: write {data.levels}"
            )

    def decode(self, x: Tensor) -> Tensor:
        """Images in [0, 1] from model space, of the levels that are nearest, not clamped; points unchanged."""
        dequantiser = self.model.dequantiser
        return super().decode(x if dequantiser is None else dequantiser.nearest(x))

    def initialise(self, data: Any) -> None:
        """Initialise ActNorm by training samples, the same on every rank."""
        split, noise = data.split("train"), generator(self.seed, "init", "flow", device=self.device)
        x = data.encode(split.take(slice(0, INITIAL))).to(self.device, self.dtype)
        x, _ = self.model.dequantise(x, noise)
        self.model.initialise(x)

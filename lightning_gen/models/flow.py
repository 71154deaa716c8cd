"""Normalising flows: p(x) = N(f(x); 0, I) |det df/dx| of an invertible network f."""

import math

import torch
from torch import Tensor

from lightning_gen.models.base import Normalised
from lightning_gen.models.energy import SmoothEnergy
from lightning_gen.nets.flows import Dequantiser, FlowNetwork, Logit
from lightning_gen.process import Clean, Process
from lightning_gen.randomness import Source, normal


class Flow(Normalised, SmoothEnergy):
    """log p(x) = log N(z; 0, I) + log |det dz/dx|, z = f(x); exact samples are x = f^-1(z), z ~ N(0, I).

    Normalizing flows for probabilistic modeling and inference (Papamakarios et al., 2021),
    https://arxiv.org/abs/1912.02762

    Args:
        net: the invertible network f, from (B, *shape) to (B, D).
        process: the process whose noise at t = 0 the data have; null for clean data.
        dequantiser: the noise that is added to the levels of the data; null for real data.
        logit: a bijection of an interval to the real numbers, before f; null for none.
    """

    def __init__(
        self,
        net: FlowNetwork,
        process: Process | None = None,
        dequantiser: Dequantiser | None = None,
        logit: Logit | None = None,
    ) -> None:
        super().__init__(Clean() if process is None else process)
        self.net, self.dequantiser, self.logit = net, dequantiser, logit
        self.dequantisation = "none" if dequantiser is None else dequantiser.name

    @property
    def levels(self) -> int | None:
        """The number of levels that are dequantised; None without a dequantiser."""
        return None if self.dequantiser is None else self.dequantiser.levels

    def networks(self) -> list[torch.nn.Module]:
        """The one network."""
        return [self.net]

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z = f(x), (B, D), and log |det dz/dx|, nats, (B,)."""
        if self.logit is None:
            return self.net(x)
        y, outer = self.logit(x)
        z, inner = self.net(y)
        return z, outer + inner

    def decode(self, z: Tensor) -> Tensor:
        """x = f^-1(z), (B, *shape)."""
        x = self.net.inverse(z)
        return x if self.logit is None else self.logit.inverse(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), nats, (B,); -inf outside of the interval of a logit."""
        z, log_det = self.encode(x)
        return log_det - 0.5 * z.square().sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi)

    def draw(self, shape: tuple[int, ...], generator: Source = None) -> Tensor:
        """x ~ p, `shape` = (B, *shape of the network)."""
        weight = next(self.net.parameters())
        return self.decode(normal((shape[0], math.prod(shape[1:])), generator, weight.device, weight.dtype))

    def dequantise(self, x: Tensor, generator: Source) -> tuple[Tensor, Tensor]:
        """y ~ q(y|x), like x, and log q(y|x), nats, (B,); without a dequantiser x itself and 0."""
        if self.dequantiser is None:
            return super().dequantise(x, generator)
        y, log_q = self.dequantiser(x, generator)
        return y, log_q - x[0].numel() * math.log(self.dequantiser.width)

    def check_levels(self, x: Tensor) -> None:
        """ValueError where x has values that are none of the dequantiser's levels."""
        if self.dequantiser is not None:
            self.dequantiser.check(x)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set the layers that a batch initialises (ActNorm), in their order from x to z."""
        layers = [layer for layer in self.net.modules() if hasattr(layer, "fit")]
        hooks = [layer.register_forward_pre_hook(lambda layer, args: layer.fit(args[0])) for layer in layers]
        try:
            self.encode(x)
        finally:
            for hook in hooks:
                hook.remove()

"""Autoregressive flows of the library zuko: masked autoregressive flow, and neural spline flow."""

from typing import Any

import torch
from torch import Tensor

from lightning_gen.nets.flows.base import FlowNetwork, Invertible
from lightning_gen.nets.flows.layers import ACTIVATIONS, Activation, kinks_of
from lightning_gen.options import Count, Shape


class ZukoFlow(Invertible):
    """A flow of zuko as one bijection of vectors.

    Args:
        name: the class in zuko.flows.
        arguments: its arguments by name.
    """

    def __init__(self, name: str, arguments: dict[str, Any]) -> None:
        super().__init__()
        try:
            import zuko
        except ImportError as error:
            raise ValueError(
                f"net {name} needs the package zuko, which is not installed: pip install 'lightning-gen[flows]'"
            ) from error
        self.flow = getattr(zuko.flows, name)(**arguments).transform

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z, (B, D), and log |det dz/dx|, nats, (B,)."""
        return self.flow().call_and_ladj(x)

    def inverse(self, z: Tensor) -> Tensor:
        """x, (B, D)."""
        return self.flow().inv(z)


def of_vectors(net: str, shape: Shape, least: int = 1) -> int:
    """D >= least of a shape (D,); ValueError for images, and for fewer values."""
    if len(shape) != 1 or shape[0] < least:
        found = f"{net}.shape is {tuple(shape)}, expected (D,) with D >= {least}, of vectors"
        raise ValueError(f"{found}: choose RealNVP or Glow for images")
    return shape[0]


class MAF(FlowNetwork):
    """z_i = (x_i - mu_i) exp(-a_i), mu_i and a_i functions of x_<i by masked networks; log det = -sum a_i.

    The order of the values is turned round from one transform to the next. One pass gives log p, D passes a sample.
    Masked autoregressive flow for density estimation (Papamakarios et al., 2017), https://arxiv.org/abs/1705.07057

    Args:
        shape: of one x, (D,).
        width: units of a hidden layer.
        depth: hidden layers of a transform's network.
        transforms: number of transforms.
        activation: silu, tanh or relu; relu has no second derivative.
    """

    def __init__(
        self,
        shape: Shape,
        width: Count = 128,
        depth: Count = 2,
        transforms: Count = 8,
        activation: Activation = "silu",
    ) -> None:
        size = of_vectors("MAF", shape)
        options = {"features": size, "transforms": transforms, "hidden_features": [width] * depth}
        options["activation"] = ACTIVATIONS[activation]
        super().__init__(shape, [(ZukoFlow("MAF", options), shape)])
        self.kinks = kinks_of(activation)


class NSF(FlowNetwork):
    """z_i = a monotone rational-quadratic spline of x_i on [-5, 5], its knots functions of x_<i by masked networks.

    Outside of [-5, 5] z_i = x_i. The second derivative jumps at the knots, and with it the score: score matching, which
    takes the score's derivative, would miss the jumps. Neural spline flows (Durkan et al., 2019),
    https://arxiv.org/abs/1906.04032

    Args:
        shape: of one x, (D,).
        width: units of a hidden layer.
        depth: hidden layers of a transform's network.
        transforms: number of transforms.
        bins: of a spline, >= 1.
    """

    kinks = "rational-quadratic splines have a second derivative that jumps at their knots: choose RealNVP or MAF"

    def __init__(
        self, shape: Shape, width: Count = 64, depth: Count = 2, transforms: Count = 4, bins: Count = 8
    ) -> None:
        size = of_vectors("NSF", shape)
        options = {"features": size, "transforms": transforms, "hidden_features": [width] * depth, "bins": bins}
        options["activation"] = torch.nn.SiLU
        super().__init__(shape, [(ZukoFlow("NSF", options), shape)])

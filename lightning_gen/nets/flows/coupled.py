"""Flows of coupling layers: RealNVP and NICE for points and images, Glow for images."""

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge
from torch import nn

from lightning_gen.nets.flows.base import Composed, FlowNetwork, Invertible
from lightning_gen.nets.flows.layers import (
    Activation,
    ActNorm,
    Coupling,
    InvertibleConv,
    Squeeze,
    alternating,
    channel_coupling,
    checkerboard,
    convolutions,
    halves,
    kinks_of,
    perceptron,
    zeroed,
)
from lightning_gen.nets.layers import image_shape
from lightning_gen.options import Count, Positive, Shape

Couplings = Annotated[int, Ge(2)]  # one alone would leave half of x as it is


class RealNVP(FlowNetwork):
    """Coupling layers in turn on both halves of x, with ActNorm between them.

    A vector's halves are its even and odd indices. An image has couplings with checkerboard masks, then a squeeze and
    couplings with masks of channels, then half of the channels go to z, and so on, at the last level with
    checkerboards alone. ActNorm is in the place of the paper's batch normalisation.
    Density estimation using Real NVP (Dinh et al., 2017), https://arxiv.org/abs/1605.08803

    Args:
        shape: of one x, (D,), D >= 2, or (C, H, W).
        width: units of a layer, or channels of a convolution, of the couplings' networks.
        depth: hidden layers of the couplings' networks of vectors.
        couplings: number of coupling layers of vectors, and of each sort in each level of images, >= 2.
        scales: of images, >= 1; H and W are multiples of 2^(scales - 1).
        activation: silu, tanh or relu; relu has no second derivative.
        additive: whether couplings only shift, and one scale a value follows: NICE.
        scale: of vectors, factor of the values on their way into the couplings' networks, > 0; at 1 these are too
            smooth at the start for structure finer than about 1.
    """

    def __init__(
        self,
        shape: Shape,
        width: Count = 128,
        depth: Count = 2,
        couplings: Couplings = 8,
        scales: Count = 2,
        activation: Activation = "silu",
        additive: bool = False,
        scale: Positive = 1.0,
    ) -> None:
        if len(shape) == 1:
            parts = [(self.vector(shape[0], width, depth, couplings, activation, additive, scale), shape)]
        else:
            parts = self.image(image_shape(self, shape), width, couplings, scales, activation, additive)
        super().__init__(shape, parts)
        self.kinks = kinks_of(activation)

    @staticmethod
    def vector(
        size: int, width: int, depth: int, couplings: int, activation: Activation, additive: bool, scale: float
    ) -> Invertible:
        """The one level of a vector."""
        if size < 2:
            raise ValueError(f"RealNVP.shape is ({size},), expected 2 values or more: a coupling needs two halves")
        layers: list[Invertible] = [ActNorm(size)]
        for k in range(couplings):
            net = perceptron(size, width, depth, size if additive else 2 * size, activation)
            layers += [Coupling(net, alternating(size, k % 2), additive, scale)]
            layers += [] if additive else [ActNorm(size)]
        return Composed(*layers, *([ActNorm(size, shift=False)] if additive else []))

    def image(
        self,
        shape: tuple[int, ...],
        width: int,
        couplings: int,
        scales: int,
        activation: Activation,
        additive: bool,
    ) -> list[tuple[Invertible, Sequence[int]]]:
        """The scales of an image, and the shapes after them."""
        divisible(self, shape, scales - 1)
        parts: list[tuple[Invertible, Sequence[int]]] = []

        def coupled(channels: int, masks: list) -> list[Invertible]:
            layers: list[Invertible] = []
            for mask in masks:
                net = convolutions(channels, width, channels if additive else 2 * channels, activation)
                layers += [ActNorm(channels), Coupling(net, mask, additive)]
            return layers

        c, h, w = shape
        for level in range(scales):
            layers = coupled(c, [checkerboard(h, w, k % 2) for k in range(couplings)])
            if level < scales - 1:
                c, h, w = 4 * c, h // 2, w // 2
                layers += [Squeeze(), *coupled(c, [halves(c, k % 2) for k in range(couplings)])]
            parts.append((Composed(*layers, ActNorm(c)), (c, h, w)))
            c //= 2
        return parts


class NICE(RealNVP):
    """RealNVP with additive couplings, s = 0, and one learned scale a value at the end.

    Of images the scales are one a channel, those of ActNorm.
    NICE (Dinh et al., 2015), https://arxiv.org/abs/1410.8516

    Args:
        shape, width, depth, couplings, scales, activation: those of RealNVP.
    """

    def __init__(
        self,
        shape: Shape,
        width: Count = 128,
        depth: Count = 2,
        couplings: Couplings = 4,
        scales: Count = 2,
        activation: Activation = "silu",
    ) -> None:
        super().__init__(shape, width, depth, couplings, scales, activation, additive=True)


class Glow(FlowNetwork):
    """Levels of a squeeze and `steps` times ActNorm, an invertible 1x1 convolution and a coupling of channels.

    What a level gives to z is scaled and shifted by a convolution of what stays, the paper's learned prior of it.
    Glow (Kingma & Dhariwal, 2018), https://arxiv.org/abs/1807.03039

    Args:
        shape: (C, H, W); H and W are multiples of 2^scales.
        channels: of the couplings' convolutions.
        steps: steps of a level, the paper's K.
        scales: the paper's L.
        activation: silu, tanh or relu; relu, the paper's, has no second derivative.
        additive: whether couplings only shift.
    """

    def __init__(
        self,
        shape: Shape,
        channels: Count = 512,
        steps: Count = 32,
        scales: Count = 3,
        activation: Activation = "relu",
        additive: bool = False,
    ) -> None:
        c, h, w = divisible(self, image_shape(self, shape), scales)
        parts: list[tuple[Invertible, Sequence[int]]] = []
        for level in range(scales):
            c, h, w = 4 * c, h // 2, w // 2
            layers: list[Invertible] = [Squeeze()]
            for _ in range(steps):
                coupling = channel_coupling(lambda i, o: convolutions(i, channels, o, activation), c, additive)
                layers += [ActNorm(c), InvertibleConv(c), coupling]
            if level < scales - 1:
                layers.append(channel_coupling(lambda i, o: zeroed(nn.Conv2d(i, o, 3, padding=1)), c))
            parts.append((Composed(*layers), (c, h, w)))
            c //= 2
        super().__init__(shape, parts)
        self.kinks = kinks_of(activation)


def divisible(net: nn.Module, shape: tuple[int, ...], squeezes: int) -> tuple[int, ...]:
    """The shape (C, H, W); ValueError where it cannot be squeezed so often."""
    if shape[1] % 2**squeezes or shape[2] % 2**squeezes:
        raise ValueError(
            f"{type(net).__name__}.scales squeezes {squeezes} times, and shape is {shape}, expected H and W in "
            f"multiples of {2**squeezes}: lower net.scales"
        )
    return shape

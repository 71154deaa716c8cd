"""Autoencoders: x -> mean and log-variance of each latent variable, and latent variables -> the parameters of x."""

from math import prod
from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_gen.nets.layers import image_shape, init
from lightning_gen.options import Checked, Count, Counts, Shape


@runtime_checkable
class EncoderDecoder(Protocol):
    """The network of a VAE: `latent` variables, the encoder q(z | x) and the decoder p(x | z)."""

    latent: int

    def encode(self, x: Tensor) -> Tensor:
        """Means, then log-variances, (B, 2 latent), of x (B, *shape)."""

    def decode(self, z: Tensor) -> Tensor:
        """Something like x, (B, *shape), of z (B, latent)."""


class Autoencoder(Checked, nn.Module):
    """The base of encoder-decoder networks. encoder: (B, *shape) -> (B, 2 latent), decoder: (B, latent) -> (B, *shape).

    Args:
        shape: of one x, (C, H, W) or (D,).
        latent: number of latent variables.
    """

    classes = None
    encoder: nn.Module
    decoder: nn.Module

    def __init__(self, shape: Shape, latent: Count) -> None:
        super().__init__()
        self.shape, self.latent = tuple(shape), latent

    def encode(self, x: Tensor) -> Tensor:
        """Means, then log-variances, (B, 2 latent), of x (B, *shape)."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Something like x, (B, *shape), of z (B, latent)."""
        return self.decoder(z).view(-1, *self.shape)

    def forward(self, x: Tensor, t: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        """The decoded means of x, like x."""
        return self.decode(self.encode(x)[:, : self.latent])

    @property
    def called(self) -> tuple[nn.Module, nn.Module]:
        """Encoder and decoder, which torch.compile has to compile: nothing calls the whole."""
        return self.encoder, self.decoder


class MLPAutoencoder(Autoencoder):
    """Tanh layers over the flattened x, as many in the encoder as in the decoder: for vectors and small images.

    Importance weighted autoencoders (Burda et al., 2016, section 5), https://arxiv.org/abs/1509.00519

    Args:
        shape, latent: those of Autoencoder.
        width: units of a layer.
        depth: hidden layers of the encoder, and of the decoder.
    """

    def __init__(self, shape: Shape, latent: Count = 50, width: Count = 200, depth: Count = 2) -> None:
        super().__init__(shape, latent)
        size = prod(self.shape)
        self.encoder = nn.Sequential(nn.Flatten(), *self.layers(size, width, depth), init(nn.Linear(width, 2 * latent)))
        self.decoder = nn.Sequential(*self.layers(latent, width, depth), init(nn.Linear(width, size)))

    def layers(self, inputs: int, width: int, depth: int) -> list[nn.Module]:
        """depth x (linear, tanh)."""
        pairs = [(init(nn.Linear(width if k else inputs, width)), nn.Tanh()) for k in range(depth)]
        return [layer for pair in pairs for layer in pair]


class ConvAutoencoder(Autoencoder):
    """3x3 convolutions with SiLU, at 1 / 2^l of the size in level l, and a linear layer to the latent variables.

    Strides halve the maps in the encoder, nearest neighbours double them in the decoder; odd sizes are rounded up. A
    smaller relative of the network of beta-VAE (Higgins et al., 2017), https://openreview.net/forum?id=Sy2fzU9gl

    Args:
        shape: (C, H, W) of one image.
        latent: number of latent variables.
        channels: of the maps where the multiplier is 1.
        multipliers: of `channels`, one for each level.
        blocks: convolutions of a level, beside the one that changes size.
    """

    def __init__(
        self,
        shape: Shape,
        latent: Count = 10,
        channels: Count = 32,
        multipliers: Counts = (1, 2),
        blocks: Count = 1,
    ) -> None:
        super().__init__(shape, latent)
        widths, sizes = [channels * m for m in multipliers], [image_shape(self, shape)[1:]]
        for _ in widths[1:]:
            sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
        flat = widths[-1] * prod(sizes[-1])
        down: list[nn.Module] = [convolution(self.shape[0], widths[0]), nn.SiLU()]
        for level, width in enumerate(widths):
            if level:
                down += [convolution(widths[level - 1], width, 2), nn.SiLU()]
            down += [layer for _ in range(blocks) for layer in (convolution(width, width), nn.SiLU())]
        self.encoder = nn.Sequential(*down, nn.Flatten(), init(nn.Linear(flat, 2 * latent)))
        up: list[nn.Module] = [init(nn.Linear(latent, flat)), nn.Unflatten(1, (widths[-1], *sizes[-1])), nn.SiLU()]
        for level in reversed(range(len(widths))):
            width = widths[level]
            up += [layer for _ in range(blocks) for layer in (convolution(width, width), nn.SiLU())]
            if level:
                up += [Resize(sizes[level - 1]), convolution(width, widths[level - 1]), nn.SiLU()]
        self.decoder = nn.Sequential(*up, convolution(widths[0], self.shape[0]))


class Resize(nn.Module):
    """Nearest neighbours to the height and width `size`."""

    def __init__(self, size: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *size)."""
        return F.interpolate(x, size=self.size)


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    """A 3x3 convolution; stride 1 keeps the size, stride 2 halves it, rounded up."""
    return init(nn.Conv2d(inputs, outputs, 3, stride, padding=1))

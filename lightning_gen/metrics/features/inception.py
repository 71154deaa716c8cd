"""The Inception features of published FID, KID and IS."""

import io
import pickle
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lightning_gen.metrics.features.base import FeatureExtractor, alone, check_file, hexadecimal

# torch-fidelity's conversion of the TensorFlow network of 2015-12-05
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SIDE = 299  # of the images that the network takes, pixels
LAYERS = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2")
LAYERS += ("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e")
LAYERS += ("Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool")
FILE = f"weights-inception-2015-12-05-{SHA256[:8]}.pth"


def downloaded() -> Path:
    """Where torch-fidelity's own download stands, or would stand."""
    return Path(torch.hub.get_dir()) / "checkpoints" / FILE


class InceptionFeatures(FeatureExtractor):
    """pool3, (B, 2048), and the bias-free logits, (B, 1008), of TensorFlow's Inception; torch-fidelity's port.

    Images go through TensorFlow 1's bilinear resize to 299x299 (no half-pixel offset, no antialiasing: another
    resize is another metric); grey images are repeated to three channels.
    "Rethinking the Inception architecture for computer vision" (Szegedy et al., 2015), https://arxiv.org/abs/1512.00567

    weights: a local file, or None for torch-fidelity's download. Nothing is fetched here:
    `python -m lightning_gen.metrics.fetch` does it once, on a machine with a network.
    sha256: of the file; by default the published weights'. The file is read as tensors, never unpickled as code.
    """

    name = "inception"
    dim = 2048
    classes = 1008
    resize = "TF1 bilinear 299x299"
    net: nn.Module | None

    def __init__(self, weights: str | None = None, sha256: str = SHA256) -> None:
        super().__init__()
        self.path = downloaded() if weights is None else Path(weights).expanduser()
        self.sha256 = hexadecimal(sha256)
        self.net = None
        self._checked = False

    def check_files(self) -> None:
        """The file is there and is the right one."""
        if not self._checked:
            check_file(self.path, self.sha256, "Inception", "python -m lightning_gen.metrics.fetch")
        self._checked = True

    def check(self, data: Any) -> None:
        """The file is the right one; the data are images of 1 or 3 channels."""
        self.needs_images(data)
        self.check_files()

    def prepare(self, data: Any, rank: int = 0, broadcast: Callable[[Any], Any] = alone) -> None:
        """Load the checked file; every process reads its own copy."""
        self.check(data)
        if self.net is None:
            self.net = _network(self.path).requires_grad_(False).eval()

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """pool3 and bias-free logits of uint8 images, 1 or 3 channels."""
        if self.net is None:
            raise RuntimeError("InceptionFeatures has no weights yet: call prepare first")
        height, width = (_interpolation(side).to(images.device) for side in images.shape[2:])
        # Its rows sum to 1: what is scaled before, at the smaller size, is scaled after.
        x = height @ ((images.float() - 128) / 128) @ width.mT
        features = self.net.layers(x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last))
        return features, features @ self.net.fc.weight.mT

    def identity(self) -> dict[str, Any]:
        """Name, weights' SHA-256, resize, torch-fidelity's version."""
        return {
            "features": self.name,
            "features_sha256": self.sha256,
            "resize": self.resize,
            "torch_fidelity": version("torch-fidelity"),
        }


def _interpolation(side: int) -> Tensor:
    """(299, side): TensorFlow 1's bilinear resize of one axis, output i at side/299 i, as a matrix."""
    place = torch.arange(SIDE, dtype=torch.float32) * torch.tensor(side / SIDE, dtype=torch.float32)
    low = place.long()
    share, rows = (place - low)[:, None], torch.eye(side)
    return rows[low] * (1 - share) + rows[(low + 1).clamp_max(side - 1)] * share


def _network(path: Path) -> nn.Module:
    """torch-fidelity's layers up to pool3, `layers`, and its last one, `fc`, with the tensors of `path`."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # It reads its file with weights_only=False, so it is handed a file that we wrote from tensors. Its layers draw
    # initial values from the global generator, which is put back; outside inference mode its weights stay ordinary.
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        buffer = io.BytesIO()
        try:
            torch.save(torch.load(path, map_location="cpu", weights_only=True), buffer)
            buffer.seek(0)
            net = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], buffer)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(f"{path} does not hold the tensors of torch-fidelity's Inception: {error}") from error
        # Equal but for rounding, in 0.6 of the time on a CPU: batch norms inside the convolutions, channels last, and
        # a resize by two products, which is not torch-fidelity's, so that its forward is not called.
        for part in net.modules():
            if isinstance(getattr(part, "bn", None), nn.BatchNorm2d):
                part.conv, part.bn = fuse_conv_bn_eval(part.conv, part.bn), nn.Identity()
        layers = nn.Sequential(*(getattr(net, name) for name in LAYERS), nn.Flatten())
        return nn.ModuleDict({"layers": layers, "fc": net.fc}).to(memory_format=torch.channels_last)

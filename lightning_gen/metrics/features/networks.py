"""Features of any network that a config names, and of the pretrained ones of timm (DINOv2, CLIP and many more)."""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_gen.errors import first_line
from lightning_gen.metrics.cache import digest
from lightning_gen.metrics.features.base import FeatureExtractor, alone, check_file, hexadecimal
from lightning_gen.options import Count, Finite, Positive


class ModuleFeatures(FeatureExtractor):
    """The output of `module`, flattened to (B, dim); or of its layer `layer`, with the module's output as logits.

    Images reach it as floats in [0, 1], resized to resize x resize pixels where that is given (bilinear, antialiased),
    their grey repeated to `channels`, then (x - mean) / std by channel; points as they are. dim is found by a pass.

    weights: a local file of tensors (.safetensors, or what torch.save wrote), and sha256, its hash; without it the
    module is taken as it is, and the tensors' own hash, which every number's protocol holds, says what that was.
    """

    module: nn.Module

    def __init__(
        self,
        module: nn.Module,
        name: str,
        weights: str | None = None,
        sha256: str | None = None,
        layer: str | None = None,
        resize: Count | None = None,
        channels: Count | None = None,
        mean: Sequence[Finite] | None = None,
        std: Sequence[Positive] | None = None,
    ) -> None:
        super().__init__()
        if not name or "/" in name:
            raise ValueError(f"features.name needs a word without /, got {name!r}: metrics will be called fid/<name>")
        if (weights is None) != (sha256 is None):
            raise ValueError("features.weights and features.sha256 go together: give both (see sha256sum FILE) or none")
        if layer is not None and layer not in dict(module.named_modules()):
            known = ", ".join(part for part, _ in module.named_children())
            raise ValueError(f"features.layer is {layer!r}, which {name} does not have: choose among {known}, or below")
        if (mean is None) != (std is None):
            raise ValueError(f"features.mean and features.std go together, got {mean} and {std}: give both or none")
        self.name, self.layer, self.side, self.channels = name, layer, resize, channels
        self.mean, self.std = mean, std
        self.file = None if weights is None else Path(weights).expanduser()
        self.file_sha256 = None if sha256 is None else hexadecimal(sha256)
        self.resize = "none" if resize is None else f"bilinear, antialiased, {resize}x{resize}"
        self.module = module.requires_grad_(False).eval()
        self._checked = self._ready = False

    def check(self, data: Any) -> None:
        """The file is there and is the right one; a pass of two black images tells how many features there are."""
        if self.file is not None and not self._checked:
            check_file(self.file, self.file_sha256, self.name)
            self._checked = True
        if len(data.shape) != 3 and (self.side or self.channels or self.mean):
            raise ValueError(
                f"features.resize, channels, mean and std are for images, got {data.name} of shape {tuple(data.shape)}:"
                " write null for them"
            )

        if hasattr(self, "dim"):
            return
        with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
            shape = tuple(data.shape)
            probe = torch.zeros(2, *shape, dtype=torch.uint8 if len(shape) == 3 else torch.float32)
            device = next((x.device for x in self.module.parameters()), torch.device("cpu"))
            features, logits = self.extract(probe.to(device))
        if features.ndim != 2 or len(features) != 2 or not features.shape[1]:
            raise ValueError(f"{self.name} gives {tuple(features.shape)} for 2 images, not a row each: choose a layer")
        self.dim, self.classes = features.shape[1], None if logits is None else logits.shape[1]

    def prepare(self, data: Any, rank: int = 0, broadcast: Callable[[Any], Any] = alone) -> None:
        """Load the checked file on every process."""
        self.check(data)
        if self._ready:
            return
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            if self.file is not None:
                load_strictly(self.module, read_tensors(self.file), self.file)
        self.tensors_sha256 = digest(dict(self.module.state_dict()))
        self._ready = True

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (B, dim), and the module's output as logits where the features are those of a layer of it."""
        x = self.normalised(images)
        if self.layer is None:
            return self.module(x).flatten(1).float(), None
        taken: list[Tensor] = []
        handle = self.module.get_submodule(self.layer).register_forward_hook(lambda *call: taken.append(call[2]))
        try:
            out = self.module(x)
        finally:
            handle.remove()
        if len(taken) != 1 or not isinstance(taken[0], Tensor):
            raise ValueError(
                f"features.layer {self.layer} gave {len(taken)} outputs in a pass: choose one with a tensor"
            )
        logits = out.float() if isinstance(out, Tensor) and out.ndim == 2 else None
        return taken[0].flatten(1).float(), logits

    def normalised(self, images: Tensor) -> Tensor:
        """What the network sees, float32, of uint8 images or points."""
        if images.dtype != torch.uint8:
            return images.float()
        x = images.float() / 255
        if self.side is not None:
            x = nn.functional.interpolate(x, (self.side, self.side), mode="bilinear", antialias=True)
        if self.channels is not None:
            x = x.expand(-1, self.channels, -1, -1)
        return x if self.mean is None else standardised(x, self.mean, self.std)

    def identity(self) -> dict[str, Any]:
        """Name, class, hash of the tensors, and how images reach them."""
        return {
            "features": self.name,
            "features_module": type(self.module).__name__,
            "features_sha256": self.tensors_sha256,
            "features_layer": self.layer,
            "features_channels": self.channels,
            "features_mean_std": None if self.mean is None else [list(self.mean), list(self.std)],
            "resize": self.resize,
        }


class TimmFeatures(FeatureExtractor):
    """What a pretrained network of timm sees: by default before its classifier, with `projected` its output.

    model: a name of timm's, as vit_small_patch14_dinov2.lvd142m or, with projected, vit_base_patch32_clip_224.openai.
    Whole images are resized to the network's input (bicubic, antialiased), grey is repeated, and they are standardised
    as the model's card says. weights: a local file, and sha256, its hash. Nothing is fetched here:
    `python -m lightning_gen.metrics.fetch --timm MODEL --to FILE` does it once, on a machine with a network.
    "DINOv2: learning robust visual features without supervision" (Oquab et al., 2023), https://arxiv.org/abs/2304.07193
    "Exposing flaws of generative model evaluation metrics" (Stein et al., 2023), https://arxiv.org/abs/2306.04675
    """

    net: nn.Module | None

    def __init__(self, model: str, weights: str, sha256: str, projected: bool = False) -> None:
        super().__init__()
        self.model, self.path, self.projected = model, Path(weights).expanduser(), projected
        self.sha256 = hexadecimal(sha256)
        self.name = model.split(".")[0]
        self.net = None
        self._checked = False

    def check(self, data: Any) -> None:
        """timm is installed and knows the model; the file is there and is the right one; the data are images."""
        self.needs_images(data)
        if self._checked:
            return
        if self.model not in timm().list_pretrained():
            raise ValueError(
                f"features.model is {self.model}, of which timm has no weights: see timm.list_pretrained()"
            )
        check_file(
            self.path, self.sha256, self.model, f"python -m lightning_gen.metrics.fetch --timm {self.model} --to FILE"
        )
        self._checked = True

    def prepare(self, data: Any, rank: int = 0, broadcast: Callable[[Any], Any] = alone) -> None:
        """Load the checked file on every process."""
        self.check(data)
        if self.net is not None:
            return
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            net = timm().create_model(self.model, pretrained=False)
            load_strictly(net, read_tensors(self.path), self.path)
        self.card = net.pretrained_cfg
        self.side = tuple(self.card["input_size"][1:])
        self.resize = f"bicubic, antialiased, {self.side[0]}x{self.side[1]}"
        self.net = net.requires_grad_(False).eval()
        self.dim = net.num_classes if self.projected else net.num_features
        if not self.dim:
            raise ValueError(f"{self.model} has no output of its own: write features.projected=false")

    def extract(self, images: Tensor) -> tuple[Tensor, None]:
        """Features (B, dim) of uint8 images."""
        if self.net is None:
            raise RuntimeError("TimmFeatures has no weights yet: call prepare first")
        x = nn.functional.interpolate(images.float() / 255, self.side, mode="bicubic", antialias=True).clamp(0, 1)
        x = self.net.forward_features(standardised(x.expand(-1, 3, -1, -1), self.card["mean"], self.card["std"]))
        return self.net.forward_head(x, pre_logits=not self.projected).float(), None

    def identity(self) -> dict[str, Any]:
        """Model, its file's SHA-256, resize, which output, timm's version."""
        return {
            "features": self.model,
            "features_sha256": self.sha256,
            "features_output": "projected" if self.projected else "before the classifier",
            "resize": self.resize,
            "timm": timm().__version__,
        }


def timm() -> Any:
    """The library, an extra of this package."""
    if importlib.util.find_spec("timm") is None:
        raise ValueError("quality.features needs timm, which is not installed: pip install 'lightning-gen[timm]'")
    return importlib.import_module("timm")


def standardised(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(x - mean) / std by channel, (B, C, H, W)."""
    mean, std = (torch.tensor(values, device=x.device).view(-1, 1, 1) for values in (mean, std))
    return (x - mean) / std


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of what torch.save wrote, never unpickled as code."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever a damaged or foreign file gives
        raise ValueError(
            f"{path} does not hold tensors alone ({type(error).__name__}: {first_line(error)}): write it anew, the "
            "network's state_dict() alone, with torch.save or, as .safetensors, safetensors.torch.save_file"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(x, Tensor) for x in content.values()):
        raise ValueError(f"{path} does not hold names and tensors alone: save the network's state_dict()")
    return content


def load_strictly(net: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Every tensor is used, and every place gets one."""
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit {type(net).__name__}: {' '.join(str(error).split())[:300]}") from error

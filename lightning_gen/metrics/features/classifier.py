"""Features of a small classifier trained on the data set itself: for images on which Inception says nothing."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from lightning_gen.caching import cache_folder
from lightning_gen.metrics.cache import digest, load, store
from lightning_gen.metrics.features.base import FeatureExtractor, alone
from lightning_gen.options import Natural
from lightning_gen.randomness import derived_seed, generator

RECIPE = 1  # part of the cache key: raise it with every change to the network or its training


class ClassifierFeatures(FeatureExtractor):
    """Penultimate layer, (B, 64), and logits of a small convolutional classifier of this data set.

    It is trained on the training split on first use (seconds for 8x8 digits, a minute or two for MNIST), on the
    CPU so that the same weights come out with and without a GPU, and kept in the user's cache folder under the split's
    fingerprint. Its accuracy on images it never saw and its weights' SHA-256 are part of every result. Numbers compare
    with one another only under equal SHA-256, and never with Inception's.

    seed: of its initial weights, order and shifts. cache: folder, null for $XDG_CACHE_HOME or ~/.cache.
    """

    dim = 64
    net: nn.Module | None
    record: dict[str, Any]

    def __init__(self, seed: Natural = 0, cache: str | None = None) -> None:
        super().__init__()
        self.seed = seed
        self.folder = cache_folder(cache) / "classifiers"
        self.net = None
        self.record = {}

    def check(self, data: Any) -> None:
        """The data are labelled images, with some held out."""
        if len(data.shape) != 3:
            raise ValueError(
                f"ClassifierFeatures needs images, got {data.name} of shape {tuple(data.shape)}: choose quality=pixels"
            )
        if not data.classes or data.classes < 2:
            raise ValueError(
                f"ClassifierFeatures needs labels of 2 classes or more, got {data.name} with classes {data.classes}:"
                " choose quality=inception or quality=pixels"
            )
        train, held_out = len(data.split("train")), len(_held_out(data)[1])
        if train < 2 or held_out == 0:
            raise ValueError(
                f"ClassifierFeatures needs 2 training images and 1 held-out image or more, {data.name} has {train} and"
                f" {held_out}: give the data a test or val split"
            )
        self.name, self.classes = data.name, int(data.classes)

    def prepare(self, data: Any, rank: int = 0, broadcast: Callable[[Any], Any] = alone) -> None:
        """Load the classifier of this training split, or train it: process 0 does, the others receive its weights."""
        self.check(data)
        fingerprint = data.split("train").fingerprint()
        if self.net is not None and self.record["train"] == fingerprint:
            return
        path = self.folder / f"{_file_name(data.name)}-{fingerprint}-recipe{RECIPE}-seed{self.seed}.pt"
        # Loaded and made outside inference mode, whose tensors could not be trained and would stay marked for ever.
        with torch.inference_mode(False):
            content = broadcast(self._load_or_train(path, data, fingerprint) if rank == 0 else None)
            with torch.random.fork_rng(devices=[]):
                net = Classifier(tuple(data.shape), self.classes, self.dim)
            net.load_state_dict(content["weights"])
            self.net, self.record = net.requires_grad_(False).eval(), content["record"]

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Penultimate layer and logits."""
        if self.net is None:
            raise RuntimeError("ClassifierFeatures has no weights yet: call prepare first")
        return self.net(images)

    def identity(self) -> dict[str, Any]:
        """Name, weights' SHA-256, held-out accuracy and how it was trained."""
        return {
            "features": f"{self.name} classifier, penultimate layer",
            "features_sha256": self.record["sha256"],
            "features_accuracy": self.record["accuracy"],
            "features_accuracy_on": self.record["accuracy_on"],
            "features_seed": self.seed,
            "features_recipe": RECIPE,
            "resize": self.resize,
        }

    def _load_or_train(self, path: Path, data: Any, fingerprint: str) -> dict[str, Any]:
        """Weights and record, from the cache or made and put there."""
        content = load(path)
        if content is None:
            net = train(data, self.seed, self.dim)
            split, images = _held_out(data)
            weights = {name: x.detach().clone() for name, x in net.state_dict().items()}
            content = {
                "weights": weights,
                "record": {
                    "sha256": digest(weights),
                    "accuracy": accuracy(net, images),
                    "accuracy_on": f"{split} ({len(images)})",
                    "train": fingerprint,
                },
            }
            store(path, content)
        elif digest(content["weights"]) != content["record"]["sha256"]:
            raise ValueError(f"the cache file {path} is damaged: delete it, it will be made again")
        return content


class Classifier(nn.Module):
    """uint8 images (B, C, H, W) -> (features (B, dim), logits (B, classes)): convolutions halved until 7 or less."""

    def __init__(self, shape: tuple[int, ...], classes: int, dim: int) -> None:
        super().__init__()
        channels, height, width = shape
        large = min(height, width) >= 16
        layers = [_convolution(channels, 16, kernel=5 if large else 3, stride=2 if large else 1)]
        height, width = (-(-side // 2) if large else side for side in (height, width))
        inside = 16
        while True:
            layers.append(_convolution(inside, 32))
            inside = 32
            if max(height, width) <= 4:
                break
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            height, width = -(-height // 2), -(-width // 2)
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.penultimate = nn.Sequential(nn.Linear(inside * height * width, dim), nn.BatchNorm1d(dim), nn.ReLU())
        self.head = nn.Linear(dim, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits."""
        features = self.penultimate(self.body(images.float() / 127.5 - 1))
        return features, self.head(features)


def _convolution(inside: int, outside: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
    )


def train(data: Any, seed: int, dim: int, batch: int = 128) -> Classifier:
    """A classifier of the training split: AdamW, one-cycle, shifts by up to a pixel; moves no global state."""
    split = data.split("train")
    size = min(batch, len(split))
    epochs = max(3, -(-300 * size // len(split)))
    steps = epochs * (len(split) // size)
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "classifier", "init"))
        net = Classifier(tuple(data.shape), int(data.classes), dim).train()
        optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
        every = 0.1 if sys.stderr.isatty() else 30.0  # a log file is not a screen
        for epoch in tqdm(range(epochs), "classifier", unit="epoch", mininterval=every, delay=every, leave=False):
            draw = generator(seed, "classifier", "order", epoch)
            order = torch.randperm(len(split), generator=draw)
            for index in order.split(size)[: len(split) // size]:
                images, labels = _shift(split.images(index).cpu(), draw), split.labels(index).cpu()
                optimizer.zero_grad()
                F.cross_entropy(net(images)[1], labels).backward()
                optimizer.step()
                schedule.step()
    return net.eval()


def _shift(images: Tensor, draw: torch.Generator) -> Tensor:
    """A batch moved by -1, 0 or 1 pixels along each axis, edges repeated."""
    down, right = torch.randint(3, (2,), generator=draw).tolist()
    height, width = images.shape[-2:]
    padded = F.pad(images.float(), (1, 1, 1, 1), mode="replicate")
    return padded[..., down : down + height, right : right + width]


@torch.no_grad()
def accuracy(net: Classifier, split: Any, batch: int = 1024) -> float:
    """Share of a split's images that are put in the right class, in [0, 1]."""
    right = 0
    for index in torch.arange(len(split)).split(batch):
        right += int((net(split.images(index).cpu())[1].argmax(1) == split.labels(index).cpu()).sum())
    return right / len(split)


def _file_name(name: str) -> str:
    """A data set's name, which may be a folder's, without what a file's name cannot hold."""
    return "".join(c if c.isalnum() or c in "_-" else "_" for c in name)


def _held_out(data: Any) -> tuple[str, Any]:
    """The test split, or val where there is no test."""
    for name in ("test", "val"):
        split = data.split(name)
        if len(split):
            return name, split
    return name, split

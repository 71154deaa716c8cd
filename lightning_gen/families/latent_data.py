"""The data of a trained autoencoder's run, for models of its latent variables."""

import hashlib
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_gen.config.instantiate import build
from lightning_gen.data import GenerativeData, Split
from lightning_gen.models import VAE, has
from lightning_gen.options import Count, Natural
from lightning_gen.runs.folder import RunFolder
from lightning_gen.runs.load import load


class LatentData(GenerativeData):
    """The data set of a VAE's run, as that run reads it, and its averaged autoencoder: batches are x, not z.

    The family encodes each batch, z ~ q(z|x) anew in each epoch, and decodes what it draws. Splits, range and
    binarisation are the run's.

    Args:
        run: the run folder, export or checkpoint of a VAE.
        batch_size: samples of a step, all ranks together.
        seed: of the order, of flips and of stochastic binarisation.
    """

    def __init__(self, run: str, batch_size: Count = 128, seed: Natural = 0) -> None:
        self.run, (module, config) = run, trained(run)
        self.inner = build(config["data"] | {"batch_size": batch_size, "seed": seed}, "data")
        super().__init__(batch_size, seed, self.inner.flip, self.inner.value_range, self.inner.binarise)
        self.name, self._levels = self.inner.name, self.inner._levels
        self.autoencoder = module.averaged
        parameters = signature(VAE).parameters
        options = {key: value for key, value in config["module"].items() if key in parameters}
        self.autoencoder_node = {"_target_": "lightning_gen.models.VAE", "net": config["net"], **options}
        self.digest = digest(self.autoencoder_node, self.autoencoder.state_dict())

    @property
    def levels(self) -> None:
        """None: latent variables are real."""
        return None

    def prepare_data(self) -> None:
        self.inner.prepare_data()

    def check_files(self) -> None:
        self.inner.check_files()

    def load(self) -> Mapping[str, Split]:
        """The splits of the VAE's data."""
        splits = self.inner.load()
        self._shape, self.classes = self.inner.shape, self.inner.classes
        return splits

    def encode(self, images: Tensor) -> Tensor:
        """x in the VAE's model space, not z."""
        return self.inner.encode(images)

    def decode(self, x: Tensor) -> Tensor:
        """Images of x in the VAE's model space."""
        return self.inner.decode(x)

    def identity(self, cache: Path | None = None) -> str:
        """That of the training images, and the digest of the autoencoder, which encodes them."""
        return f"{super().identity(cache)} encoded by {self.digest}"

    def changed(self, identity: str, known: str) -> str:
        """The same; of another autoencoder of the same images, that it is another."""
        (images, _, own), (same, _, theirs) = (text.rpartition(" encoded by ") for text in (identity, known))
        if images != same:
            return super().changed(identity, known)
        return f"data.run is {self.run}, an autoencoder of the digest {own}, expected that of {theirs}"


def trained(run: str) -> tuple[Any, dict[str, Any]]:
    """The module of a VAE's run and its config; ValueError, one sentence, for a missing, damaged or other run."""
    try:
        module = load(run)
        config = RunFolder.of(Path(run)).config()
    except Exception as error:  # whatever a foreign or damaged folder makes of it is a fault of data.run
        raise ValueError(
            f"data.run is {run}, which cannot be loaded ({' '.join(str(error).split())}), expected the run of a VAE: "
            "train one (experiment=vae_digits), and name its folder"
        ) from error
    if not has(module.model, VAE):
        raise ValueError(
            f"data.run is {run}, a run of {type(module).__name__}, expected that of a VAE, which encodes and decodes: "
            "name one"
        )
    return module, config


def digest(node: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str:
    """The first 16 hex characters of the SHA-256 of an autoencoder's config and weights."""
    sha = hashlib.sha256(repr(sorted(node.items(), key=str)).encode())
    for key, value in sorted(weights.items()):
        sha.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        sha.update(value.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]

"""Sample metrics: the Frechet step, Inception, and the share of the network's forward in a whole evaluation.

Features have the covariance k^-1 in a random basis, a decaying one as networks' features have. Inception's weights are
random where the published ones are not there: time does not depend on their values.
"""

import io
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from benchmarks.counting import flops
from benchmarks.parts.sampling import digits_module, forward_seconds
from benchmarks.table import Row, at_least, at_most, counted
from benchmarks.timing import ROOT, Run, cpu, matrix_rate, same
from lightning_gen.caching import cache_folder
from lightning_gen.data import Digits
from lightning_gen.metrics import (
    ClassifierFeatures,
    InceptionFeatures,
    frechet_error,
    frechet_of_features,
    moments,
    reference,
)
from lightning_gen.metrics.cache import file_digest
from lightning_gen.metrics.evaluation import Evaluation, Options
from lightning_gen.metrics.features.inception import downloaded
from lightning_gen.samplers import DDIM


def features(n: int, d: int, seed: int) -> Tensor:
    """float32 (n, d) with covariance eigenvalues 1/k."""
    draw = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(0)))[0]
    roots = torch.arange(1, d + 1) ** -0.5 * (1 + 0.1 * seed)
    return (torch.randn(n, d, generator=draw) * roots) @ basis


def by_sqrtm(x: Tensor, known: dict[str, np.ndarray]) -> float:
    """The usual implementation, as in the TensorFlow original's port: scipy.linalg.sqrtm of the product."""
    from scipy.linalg import sqrtm

    mean, cov = x.numpy().mean(0), np.cov(x.numpy(), rowvar=False)
    root = sqrtm(cov.dot(known["sigma"])).real
    return float(((mean - known["mu"]) ** 2).sum() + np.trace(cov + known["sigma"] - 2 * root))


def by_torchmetrics(x: Tensor, known: dict[str, np.ndarray]) -> float:
    """torchmetrics' own functions, from float64 moments as its FrechetInceptionDistance keeps them."""
    from torchmetrics.image.fid import _compute_fid

    double = x.double()
    mean, real = double.mean(0), torch.as_tensor(known["mu"])
    cov = (double.T @ double - len(x) * torch.outer(mean, mean)) / (len(x) - 1)
    return float(_compute_fid(real, torch.as_tensor(known["sigma"]), mean, cov))


def frechet(run: Run, n: int, goal: float) -> Iterator[Row]:
    """From float32 features of n samples, the reference's statistics cached; and what its error takes more."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    d = run.pick(2048, 16)
    x, real = features(n, d, 1), features(max(n, 2 * d), d, 0)
    (mean, cov), known = moments(real), fid_features_to_statistics(real)

    def fidelity() -> float:
        found = fid_statistics_to_metric(fid_features_to_statistics(x), known, False)
        return found["frechet_inception_distance"]

    peers = {
        "torch-fidelity": fidelity,
        "torchmetrics": lambda: by_torchmetrics(x, known),
        "scipy's sqrtm": lambda: by_sqrtm(x, known),
    }
    ours = frechet_of_features(x, mean, cov)
    for name, call in peers.items():  # below full rank the peers take roots of rounding errors
        same(f"the distance by {name}", torch.tensor(ours), torch.tensor(call()), 1e-4 if n > d else 1e-2)
    products = 2 * n * d * d + 2 * min(n, d) * d * d
    yield run.row(
        f"Fréchet step, N = {n:,}, d = {d:,}",
        lambda: frechet_of_features(x, mean, cov),
        peers,
        ("covariance and one product", products / matrix_rate()),
        at_most(1 / goal),
        "s",
    )
    yield run.row(
        f"Fréchet step with its error, N = {n:,}",
        lambda: (frechet_of_features(x, mean, cov), frechet_error(x, mean, cov)),
        limit=("the distance alone", lambda: frechet_of_features(x, mean, cov)),
        unit="s",
    )


def few(run: Run) -> Iterator[Row]:
    """The Frechet step of 1,000 samples against torch-fidelity."""
    yield from frechet(run, run.pick(1_000, 40), 8)


def many(run: Run) -> Iterator[Row]:
    """The Frechet step of 10,000 samples against torch-fidelity."""
    yield from frechet(run, run.pick(10_000, 80), 2)


def weights(folder: str) -> tuple[Path, str]:
    """Inception's weights and what they are: the published file, or random ones of the same tensors."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    if downloaded().is_file():
        return downloaded(), "published"

    class Untrained(FeatureExtractorInceptionV3):
        """Without weights to read."""

        def load_state_dict(self, *_: Any) -> None:
            """Nothing."""

    nothing, path = io.BytesIO(), Path(folder, "weights.pth")
    torch.save({}, nothing)
    nothing.seek(0)
    state = Untrained("inception", ["2048"], nothing).state_dict()
    torch.save({name: x * 6**0.5 if "conv.weight" in name else x for name, x in state.items()}, path)
    return path, "random"


def extractor(ours: bool, path: Path, images: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
    """pool3 and logits of the images, by ours or torch-fidelity's network of the weights."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    if not ours:
        net = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(path)).requires_grad_(False)
        return partial(net, images)
    made = InceptionFeatures(str(path), file_digest(path))
    made.prepare(type("Data", (), {"name": "random", "shape": (3, 32, 32)}))
    return partial(made, images)


def inception(run: Run) -> Iterator[Row]:
    """Images a second through Inception against torch-fidelity: each as its users run it, and with memory kept."""
    batch = run.pick(32, 1)
    images = torch.randint(256, (batch, 3, 32, 32), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path, kind = weights(folder)
        builds = {name: partial(extractor, name == "", path, images) for name in ("", "torch-fidelity")}
        calls = {name: build() for name, build in builds.items()}
        ours = calls.pop("")
        for a, b in zip(ours(), calls["torch-fidelity"](), strict=True):
            same("Inception's features", a, b, 1e-4)
        what = f"Inception, {batch} images of 3x32x32, {kind} weights: images"
        limit = "its arithmetic at the rate of a matrix product", flops(ours) / matrix_rate()
        yield run.row(what, ours, calls, limit, at_least(1.8), "a second", batch, programs=builds)
        yield run.row(f"{what}, memory kept by both", ours, calls, limit, at_least(1.8), "a second", batch)


def evaluation(run: Run) -> Iterator[Row]:
    """The share of the network's forward in an evaluation."""
    n, steps, data = run.pick(10_000, 64), run.pick(100, 2), Digits()
    data.setup()
    module = digits_module(DDIM(steps, clip=(-1.0, 1.0)))
    block = module.block_size(n)
    module.sample(1)
    # Of n samples, that is in one block: `block` samples alone would be drawn in smaller ones.
    drawing, inside = forward_seconds(module, lambda: next(module.blocks(n, 0)))
    extractor = ClassifierFeatures()
    extractor.prepare(data)
    images, rows = data.split("train").images(torch.arange(n) % 1300), []
    extracting = cpu(lambda: rows.extend(extractor(part) for part in images.split(block)))
    x, logits = (torch.cat(parts) for parts in zip(*rows, strict=True))
    train, test = (reference(data.split(name), extractor, cache_folder()) for name in ("train", "test"))
    noise = 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    names = yaml.safe_load((ROOT / "experiments/quality/digits.yaml").read_text())["metrics"]
    samples = Evaluation(x + noise, logits, train, (train, test), Options())
    measuring = cpu(lambda: samples.measure(names))
    whole = drawing * n / block + extracting + measuring
    share = 100 * inside * n / block / whole
    besides = (drawing - inside) * n / block
    yield counted(
        f"evaluation of {n:,} digits, DDIM of {steps} steps, drawing extrapolated from {block}: the forward's share",
        share,
        "%",
        goal=at_least(97, "ours"),
        rounds=1,
        reason=f"of {whole:.0f} s the sampler takes {besides:.1f}, features {extracting:.1f}, metrics {measuring:.1f}",
    )


CASES = ()
LONG = (few, many, inception, evaluation)

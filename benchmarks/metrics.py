"""Our sample metrics against their named peers: python benchmarks/metrics.py

All in one process, a round of the one after a round of the other, as CPU time on one thread, medians over the rounds.
Equal results are checked before any time is printed. Features have the covariance k^-1 in a random basis, a decaying
one as networks' features have; Inception has seeded random weights, since time does not depend on their values.
"""

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from threadpoolctl import threadpool_limits
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lightning_gen.caching import cache_folder  # noqa: E402
from lightning_gen.config.instantiate import build  # noqa: E402
from lightning_gen.data import Digits  # noqa: E402
from lightning_gen.families import DDPM  # noqa: E402
from lightning_gen.metrics import (  # noqa: E402
    ClassifierFeatures,
    InceptionFeatures,
    frechet_error,
    frechet_of_features,
    moments,
    reference,
)
from lightning_gen.metrics.cache import file_digest  # noqa: E402
from lightning_gen.metrics.evaluation import Evaluation, Options  # noqa: E402
from lightning_gen.samplers import DDIM  # noqa: E402
from lightning_gen.stages.quiet import quieten  # noqa: E402


def features(n: int, d: int, seed: int) -> Tensor:
    """float32 (n, d) with covariance eigenvalues 1/k."""
    draw = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(0)))[0]
    roots = torch.arange(1, d + 1) ** -0.5 * (1 + 0.1 * seed)
    return (torch.randn(n, d, generator=draw) * roots) @ basis


def fidelity(x: Tensor, reference: dict[str, np.ndarray]) -> float:
    """torch-fidelity's own functions, its reference statistics cached."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    return fid_statistics_to_metric(fid_features_to_statistics(x), reference, False)["frechet_inception_distance"]


def by_sqrtm(x: Tensor, reference: dict[str, np.ndarray]) -> float:
    """The usual implementation, as in the TensorFlow original's port: scipy.linalg.sqrtm of the product."""
    from scipy.linalg import sqrtm

    mean, cov = x.numpy().mean(0), np.cov(x.numpy(), rowvar=False)
    root = sqrtm(cov.dot(reference["sigma"])).real
    return float(((mean - reference["mu"]) ** 2).sum() + np.trace(cov + reference["sigma"] - 2 * root))


def cpu(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of a call, and its result."""
    start = time.process_time()
    value = call()
    return time.process_time() - start, value


def compare(name: str, methods: dict[str, Callable[[], Any]], gates: dict[str, float], rounds: int, close: Any) -> bool:
    """Print the medians and each peer's ratio to the first; whether every gate holds."""
    times: dict[str, list[float]] = {method: [] for method in methods}
    for _ in range(rounds):
        values = {}
        for method, call in methods.items():
            seconds, values[method] = cpu(call)
            times[method].append(seconds)
        close(values)
    ours = next(iter(methods))
    median = {method: statistics.median(seconds) for method, seconds in times.items()}
    print(f"\n{name}: {ours} {median[ours]:.2f} s, {rounds} rounds")
    held = True
    for method, gate in gates.items():
        ratios = sorted(theirs / own for theirs, own in zip(times[method], times[ours], strict=True))
        ratio = median[method] / median[ours]
        held &= ratio >= gate
        word = "held" if ratio >= gate else "missed"
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(f"  {method:28} {median[method]:7.2f} s   {ratio:6.2f} x ({spread})   gate {gate:g} x   {word}")
    return held


def frechet(n: int, d: int, gates: dict[str, float], rounds: int) -> bool:
    """The Frechet step from float32 features, the reference's statistics cached."""
    from torch_fidelity.metric_fid import fid_features_to_statistics

    x, real = features(n, d, 1), features(max(n, 2 * d), d, 0)
    mean, cov = moments(real)
    theirs = fid_features_to_statistics(real)
    methods = {
        "ours": lambda: frechet_of_features(x, mean, cov),
        "torch-fidelity": lambda: fidelity(x, theirs),
        "scipy sqrtm": lambda: by_sqrtm(x, theirs),
    }

    def close(values: dict[str, float]) -> None:
        # below full rank the peers take roots of rounding errors
        for method, value in values.items():
            if abs(value - values["ours"]) > (1e-5 if n > d else 1e-3) * values["ours"]:
                raise ValueError(f"{method} gives {value}, ours {values['ours']}, expected equal distances: fix one")

    held = compare(f"Frechet step, N = {n:,}, d = {d:,}", methods, gates, rounds, close)
    seconds, _ = cpu(lambda: frechet_error(x, mean, cov))
    print(f"  our error by the delta method takes {seconds:.2f} s more")
    return held


def inception(batch: int, gates: dict[str, float], rounds: int) -> bool:
    """Images of 3x32x32 through Inception."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        """Without weights to read."""

        def load_state_dict(self, *_: Any) -> None:
            """Nothing."""

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    state = Untrained("inception", ["2048"], nothing).state_dict()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.pth")
        torch.save({name: x * 6**0.5 if "conv.weight" in name else x for name, x in state.items()}, path)
        theirs = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(path)).requires_grad_(False)
        ours = InceptionFeatures(str(path), file_digest(path))
        ours.prepare(type("Data", (), {"name": "random", "shape": (3, 32, 32)}))
    images = torch.randint(256, (batch, 3, 32, 32), dtype=torch.uint8)

    def close(values: dict[str, tuple[Tensor, Tensor]]) -> None:
        for a, b in zip(*values.values(), strict=True):
            if (a - b).norm() > 1e-6 * b.norm():
                raise ValueError("the features are not the same")

    methods = {"ours": lambda: ours(images), "torch-fidelity": lambda: theirs(images)}
    return compare(f"Inception, {batch} images of 3x32x32", methods, gates, rounds, close)


def evaluation(n: int, gate: float) -> bool:
    """The share of the network's forward in the demo's evaluation of n digits: one block drawn, n measured."""
    data = Digits()
    data.setup()
    net = build({**yaml.safe_load((ROOT / "experiments/net/unet_digits.yaml").read_text()), "shape": [1, 8, 8]})
    optimizer = partial(torch.optim.Adam, lr=1e-4)  # never used
    module = DDPM(net, optimizer, shape=data.shape, value_range=data.value_range, sampler=DDIM(100, clip=[-1.0, 1.0]))
    net = module.averaged.net
    inside, forward = [0.0], net.forward

    def timed(*arguments: Any, **options: Any) -> Any:
        seconds, out = cpu(lambda: forward(*arguments, **options))
        inside[0] += seconds
        return out

    net.forward = timed
    block = 64
    drawing, _ = cpu(lambda: [x for _, x in module.blocks(block, 0)])
    extractor = ClassifierFeatures()
    extractor.prepare(data)
    images = data.split("train").images(torch.arange(n) % 1300)
    extracting, rows = cpu(lambda: [extractor(part) for part in images.split(block)])
    x, logits = (torch.cat(parts) for parts in zip(*rows, strict=True))
    train, test = (reference(data.split(name), extractor, cache_folder()) for name in ("train", "test"))
    noise = 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    metrics = yaml.safe_load((ROOT / "experiments/quality/digits.yaml").read_text())["metrics"]
    samples = Evaluation(x + noise, logits, train, (train, test), Options())
    measuring, _ = cpu(lambda: samples.measure(metrics))
    blocks = n / block
    share = inside[0] * blocks / (drawing * blocks + extracting + measuring)
    held = share >= gate
    besides, drawn = (drawing - inside[0]) * blocks, inside[0] * blocks
    print(f"\nEvaluation of {n:,} digits, DDIM of 100 steps: forward {drawn:.0f} s,")
    print(
        f"  the sampler's rest {besides:.1f} s, features {extracting:.1f} s, {len(metrics)} metrics {measuring:.1f} s"
    )
    print(f"  {share:.1%} in the forward   gate {gate:.0%}   {'held' if held else 'missed'}")
    return held


def main() -> int:
    """Measure and print; 1 if a gate is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each (%(default)s)")
    parser.add_argument("--only", choices=["frechet", "few", "inception", "evaluation"], help="one part alone")
    options = parser.parse_args()
    quieten()
    torch.set_num_threads(1)
    threadpool_limits(1)  # numpy's and scipy's libraries have threads of their own
    torch.manual_seed(0)
    parts = {
        "frechet": lambda: frechet(10_000, 2048, {"torch-fidelity": 1.6, "scipy sqrtm": 4}, options.rounds),
        "few": lambda: frechet(1_000, 2048, {"torch-fidelity": 5, "scipy sqrtm": 5}, options.rounds),
        "inception": lambda: inception(32, {"torch-fidelity": 1.5}, options.rounds),
        "evaluation": lambda: evaluation(10_000, 0.9),
    }
    held = [part() for name, part in parts.items() if options.only in (None, name)]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())

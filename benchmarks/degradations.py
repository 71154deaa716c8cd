"""What features see of images made worse: python benchmarks/degradations.py FILE.npz, with x_test and y_test.

Distances of n test images, as they are and degraded at five strengths, to n others; and images a second of CPU time.
"""

import argparse
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lightning_gen.metrics import (  # noqa: E402
    EfficientNetFeatures,
    FeatureExtractor,
    PixelFeatures,
    frechet_of_features,
    kernel_distance_all,
    moments,
)
from tests.metrics.degradations import STRENGTHS, degraded  # noqa: E402


def sets(images: Tensor, labels: Tensor, n: int) -> dict[str, list[Tensor]]:
    """The first n of `images` as they are, degraded, and n of fewer classes, the last ones missing first."""
    clean, classes = images[:n], int(labels.max()) + 1
    found = {"none": [clean]}
    found |= {kind: [degraded(clean, kind, s) for s in strengths] for kind, strengths in STRENGTHS.items()}
    left = [round(classes * share) for share in (0.9, 0.7, 0.5, 0.3, 0.1)]
    return found | {"missing classes": [images[labels < k][:n] for k in left]}


def seen(features: FeatureExtractor, images: Tensor) -> Tensor:
    """Their features, in batches of 50."""
    return torch.cat([features(batch)[0] for batch in images.split(50)])


def table(features: FeatureExtractor, real: Tensor, worse: dict[str, list[Tensor]]) -> None:
    """Print a row a degradation: FID, and 1,000 times KID."""
    start, reference = time.process_time(), seen(features, real)
    rate = len(real) / (time.process_time() - start)
    print(f"\n{features.name}, {features.resize}: {rate:.0f} images a second of one core\n")
    print("| | FID | 1,000 KID |\n|---|---|---|")
    middle = moments(reference)
    for kind, levels in worse.items():
        them = [seen(features, images) for images in levels]
        distances = ", ".join(f"{frechet_of_features(x, *middle):.3g}" for x in them)
        kernels = ", ".join(f"{1000 * kernel_distance_all(x, reference).value:.3g}" for x in them)
        print(f"| {kind} | {distances} | {kernels} |", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="an .npz with x_test (N, H, W, 3), uint8, and y_test")
    parser.add_argument("--n", type=int, default=200, help="images of each set")
    parser.add_argument("--side", type=int, nargs="+", default=[160], help="sides that images are resized to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(options.file) as file:
        images = torch.from_numpy(file["x_test"]).permute(0, 3, 1, 2).contiguous()
        labels = torch.from_numpy(file["y_test"]).flatten().long()
    half = len(images) // 2
    worse = sets(images[half:], labels[half:], options.n)
    for features in (PixelFeatures(), *map(EfficientNetFeatures, options.side)):
        features.prepare(SimpleNamespace(name="images", shape=tuple(images.shape[1:])))
        table(features, images[: options.n], worse)


if __name__ == "__main__":
    main()

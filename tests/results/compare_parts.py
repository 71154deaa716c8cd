"""Run folders with numbers that are known, for the tests of the comparison."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lightning_gen.callbacks import RecordLogger
from lightning_gen.results.drawing import save_samples
from lightning_gen.results.result import Result

QUALITY = {
    "n": 400,
    "features": "digits classifier",
    "features_sha256": "ab" * 32,
    "resize": "none",
    "reference": "train",
    "reference_fingerprint": "13402e78499b29eb",
    "n_reference": 1300,
    "data": "digits",
    "quantisation": "round(255 clamp(x, 0, 1))",
    "kid_subsets": 100,
    "sampler": {"name": "DDIM", "steps": 4},
    "evaluations": 4.0,
    "weights": "ema",
    "guidance": "no labels",
    "seed": 0,
    "block": 64,
    "torch": "2.15.0",
    "std_over_subsets": 0.1,
    "bias": "upwards at small n",
}
IMAGES = {
    "split": "test",
    "data": "88596f77febd0b4b",
    "n": 32,
    "weights": "ema",
    "conditional": False,
    "dequantisation": "none",
    "levels": 256,
}
NATS = math.log(2) * 64  # a bit per dimension of an 8x8 image


def fid(value: float, error: float | None = None, **protocol: Any) -> Result:
    """A number under QUALITY's protocol, but for what is given."""
    return Result(value, "estimate", error, "", QUALITY | protocol)


def bits(value: float, kind: str = "upper bound", error: float | None = 0.01, **protocol: Any) -> Result:
    """Bits/dim of IMAGES, but for what is given."""
    return Result(value, kind, error, "bits/dim", IMAGES | protocol)


def folder(
    path: Path,
    results: dict[str, Result],
    *,
    family: str = "DDPM",
    data: dict[str, Any] | None = None,
    module: dict[str, Any] | None = None,
    losses: int = 0,
    level: int | None = None,
    seed: int = 0,
) -> Path:
    """A run folder of an 8x8 model with these numbers, this many losses, and samples of one grey level."""
    path.mkdir(parents=True)
    metrics = {name: result.as_dict() | {"step": 60} for name, result in results.items()}
    for entry in metrics.values():
        entry["value"] = str(entry["value"]) if not math.isfinite(entry["value"]) else entry["value"]
    (path / "metrics.json").write_text(json.dumps(metrics))
    config = {
        "seed": seed,
        "data": {"_target_": "lightning_gen.data.Digits", "value_range": [-1.0, 1.0], **(data or {})},
        "module": {"_target_": f"lightning_gen.families.{family}", "shape": [1, 8, 8], **(module or {})},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    if losses:
        logger = RecordLogger(path)
        for step in range(1, losses + 1):
            logger.log_metrics({"train/loss": 1 / step, "val/loss/ema": 2 / step, "epoch": 0}, step)
        logger.finalize("done")
    if level is not None:
        save_samples(path, "00000060", np.full((40, 8, 8, 1), level, np.uint8), 0, "DDIM")
    return path

"""Hours that the recipes for a GPU take, by their arithmetic: python benchmarks/hours.py [--tflops 50].

Counts the operations of matrix products and convolutions in one step of each `_cifar` experiment, forward and backward,
of all players and all their updates, with a small batch on the CPU. At the throughput that you name, in
10^12 operations a second, the recipe's batch and number of steps are hours. What is no product (normalisation,
activations, the optimizer, reading data, the evaluation) is not counted: a GPU takes longer than its peak says.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lightning_gen.config.instantiate import build, build_module, complete  # noqa: E402
from lightning_gen.families.cost import Products  # noqa: E402
from lightning_gen.families.players import toggle  # noqa: E402

SHAPE, BATCH = (3, 32, 32), 2


def config_of(experiment: str) -> dict[str, Any]:
    """The composed config, with what CIFAR-10 would write into it."""
    with initialize_config_dir(str(ROOT / "experiments"), version_base="1.3"):
        config = OmegaConf.to_container(compose("config", [f"experiment={experiment}"]), resolve=True)
    complete(config, build(config["data"], "data"))
    config["module"].pop("compile", None)
    return config


def operations(config: dict[str, Any]) -> int:
    """Multiplications and additions of products in one step, for one sample of the batch."""
    module = build_module(config)
    low, high = config["data"]["value_range"]
    x = torch.rand(BATCH, *SHAPE) * (high - low) + low
    players, total = module.players(), 0
    for player in players:
        player.build()
    for player in players:
        toggle(players, player)
        with Products() as counter:
            player.objective(module.model, {"x": x}, torch.Generator().manual_seed(0), 1).mean().backward()
        total += counter.total * (players[-1].every // player.every)
    return total // BATCH


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tflops", type=float, default=50.0, help="10^12 operations a second (%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="EXPERIMENT")
    options = parser.parse_args()
    found = sorted(path.stem for path in (ROOT / "experiments/experiment").glob("*_cifar.yaml"))
    print(f"| experiment | steps | batch | 10^9 operations a sample | hours at {options.tflops:g} · 10^12 a second |")
    print("|---|---|---|---|---|")
    for experiment in options.only or found:
        config = config_of(experiment)
        each, steps, batch = operations(config), config["trainer"]["max_steps"], config["data"]["batch_size"]
        hours = each * batch * steps / options.tflops / 1e12 / 3600
        print(f"| `{experiment}` | {steps:,} | {batch} | {each / 1e9:.1f} | {hours:.0f} |", flush=True)


if __name__ == "__main__":
    main()

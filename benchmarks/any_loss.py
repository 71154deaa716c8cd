"""One flow on the rings by six losses: nats and error of the score against the truth: python benchmarks/any_loss.py

A flow knows log p and its score, so that every loss on a density fits it, and the rings know both, too. The relative
error of the score is E||s - s*||^2 / E||s*||^2, both means over the same test points, which the data's density weights:
0 is the truth, a score of 0 has 1, and a rough one more. Denoising score matching learns the density of noisy data,
and is compared with that.
"""

import argparse
import math
import time

import torch
from torch import Tensor

from lightning_gen.data import Rings
from lightning_gen.losses import (
    NCE,
    ContrastiveDivergence,
    DenoisingScoreMatching,
    ExactScoreMatching,
    Loss,
    NegativeLogLikelihood,
    SlicedScoreMatching,
    constant,
)
from lightning_gen.models import Flow
from lightning_gen.nets import NSF, MixtureFlow
from lightning_gen.process import VE, Clean
from lightning_gen.randomness import generator
from lightning_gen.samplers import MALA

SIGMA = 0.05  # noise of denoising score matching, in units of the plane
CHAIN = {"step_size": 2e-3, "start": "normal", "spread": 1.5, "jump": 0.2}
LOSSES: dict[str, tuple[Loss, float]] = {
    "likelihood": (NegativeLogLikelihood(), 0.0),
    "exact score matching": (ExactScoreMatching(), 0.0),
    "sliced score matching": (SlicedScoreMatching(), 0.0),
    "denoising score matching": (DenoisingScoreMatching(constant(0.0), "simple", "sum"), SIGMA),
    "NCE against N(0, 1.2^2)": (NCE(1.2, ratio=2), 0.0),
    "persistent CD, 5 steps of MALA": (ContrastiveDivergence(MALA(5, **CHAIN), start="persistent"), 0.0),
}


def trained(loss: Loss, sigma: float, x: Tensor, options: argparse.Namespace) -> Flow:
    """A flow after `steps` of Adam on batches of x, (n, 2)."""
    torch.manual_seed(options.seed)
    net = MixtureFlow((2,), options.width, options.depth, options.couplings, options.components, scale=10.0)
    model = Flow(net, VE(sigma, sigma) if sigma else Clean()).to(x)
    loss.check(model)
    model.initialise(x[:512])
    optimizer = torch.optim.Adam(model.parameters(), options.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    for step in range(options.steps):
        noise = generator(options.seed, "train", step)
        batch = x[torch.randint(len(x), (options.batch,), generator=noise)]
        optimizer.zero_grad()
        loss(model, batch, noise).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    return model


def compared(model: Flow, data: Rings, sigma: float) -> tuple[Tensor, Tensor, float]:
    """log p and the true log p of test points with the model's noise, nats, (n,), and the score's relative error."""
    x = data.split("test").take(slice(None)).double()
    x = x + sigma * torch.randn(x.shape, generator=generator(0, "test"), dtype=torch.float64)
    model, time_zero = model.double(), torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        nats = model.log_prob(x)
    true, s = data.score(x, sigma**2), model.score(x, time_zero).detach()
    return nats, data.log_density(x, sigma**2), float((s - true).square().sum() / true.square().sum())


def main() -> None:
    """A row for each loss, and the refusal of a flow of splines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sizes = {"steps": 800, "batch": 256, "width": 64, "depth": 3, "couplings": 2, "components": 16, "seed": 0}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="(%(default)s)")
    parser.add_argument("--lr", type=float, default=4e-3, help="(%(default)s)")
    parser.add_argument("--only", nargs="+", help="words of the losses' names; all without")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = Rings()
    data.setup()
    x = data.split("train").take(slice(None))
    print("| loss | nats | the truth's | short of it by | relative error of the score | CPU s |")
    print("|---|---|---|---|---|---|")
    for name, (loss, sigma) in LOSSES.items():
        if options.only and not any(word in name for word in options.only):
            continue
        begun = time.process_time()
        model = trained(loss, sigma, x, options)
        seconds = time.process_time() - begun
        nats, true, error = compared(model, data, sigma)
        gap = true - nats
        bar = float(gap.std()) / math.sqrt(len(gap))
        print(
            f"| {name} | {nats.mean():.3f} | {true.mean():.3f} | {gap.mean():.3f} ± {bar:.3f} | {error:.3f} "
            f"| {seconds:.0f} |",
            flush=True,
        )
    for loss in (ExactScoreMatching(), SlicedScoreMatching()):
        try:
            loss.check(Flow(NSF((2,), 16)))
        except TypeError as refusal:
            print(f"\nNSF: {refusal}")


if __name__ == "__main__":
    main()

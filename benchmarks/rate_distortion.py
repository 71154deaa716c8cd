"""Rate and distortion of a VAE over beta: python benchmarks/rate_distortion.py [--out curve.png]

R = E KL(q(z|x) || p(z)) are the nats that a code of z would need (bits back), D = -E log p(x|z) those of x given z.
Each beta weighs them otherwise, D + beta R; R + D is minus the ELBO. Of binarised digits of scikit-learn, test split.
Fixing a broken ELBO (Alemi et al., 2018), https://arxiv.org/abs/1711.00464
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lightning_gen.data import Digits  # noqa: E402
from lightning_gen.losses import ELBO  # noqa: E402
from lightning_gen.models import VAE  # noqa: E402
from lightning_gen.nets import MLPAutoencoder  # noqa: E402
from lightning_gen.randomness import generator  # noqa: E402
from lightning_gen.results.pictures.figures import light_frame, new_figure, png  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BETAS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)


def trained(x: Tensor, beta: float, steps: int) -> VAE:
    """A VAE of 16 latent variables after Adam's steps in batches of 128."""
    torch.manual_seed(0)
    model, loss, noise = VAE(MLPAutoencoder(tuple(x.shape[1:]), 16, 256)), ELBO(beta), generator(0, "noise")
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model, x[torch.randint(len(x), (128,), generator=noise)], noise).mean().backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def rate_and_distortion(model: VAE, x: Tensor, draws: int = 20) -> tuple[float, float]:
    """R, and D by draws of z, nats an image."""
    mean, log_variance = model.posterior(x)
    noise = generator(0, "distortion")
    logs = [model.log_conditional(x, model.sample_posterior(mean, log_variance, noise)).mean() for _ in range(draws)]
    return model.kl(mean, log_variance).mean().item(), -torch.stack(logs).mean().item()


def curve(axes: "Axes", points: dict[float, tuple[float, float]]) -> None:
    """D over R for each beta, and the line of the least R + D."""
    rates, distortions = zip(*points.values(), strict=True)
    least = min(map(sum, points.values()))
    axes.plot(rates, distortions, "o-", color="#2563a8")
    axes.plot([0, least], [least, 0], "--", color="0.6", label=f"R + D = {least:.1f} nats")
    for beta, (rate, distortion) in points.items():
        axes.annotate(f"β = {beta:g}", (rate, distortion), (4, 4), textcoords="offset points", fontsize=8)
    axes.set(xlabel="rate R, nats an image", ylabel="distortion D, nats an image")
    axes.set(xlim=(0, 1.15 * max(rates)), ylim=(0, 1.15 * max(distortions)))
    axes.legend(fontsize=8)


def picture(points: dict[float, tuple[float, float]]) -> bytes:
    """The curve, a PNG."""
    figure = new_figure(5, 4, dpi=120)
    axes = figure.add_subplot()
    curve(axes, points)
    light_frame(axes)
    return png(figure)


def main() -> None:
    """Train, measure, print a row each, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=2000, help="optimizer steps of each beta (%(default)s)")
    parser.add_argument("--out", type=Path, help="the picture, a PNG")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = Digits(binarise="fixed", value_range=(0.0, 1.0))
    data.setup()
    x, held_out = (data.encode(data.split(name).images(slice(None))) for name in ("train", "test"))
    print("| beta | rate R, nats | distortion D, nats | R + D | bits/dim of R + D |\n|---|---|---|---|---|")
    points = {}
    for beta in BETAS:
        rate, distortion = points[beta] = rate_and_distortion(trained(x, beta, options.steps), held_out)
        bits = (rate + distortion) / held_out[0].numel() / torch.log(torch.tensor(2.0)).item()
        print(f"| {beta:g} | {rate:.2f} | {distortion:.2f} | {rate + distortion:.2f} | {bits:.3f} |", flush=True)
    if options.out:
        options.out.write_bytes(picture(points))


if __name__ == "__main__":
    main()

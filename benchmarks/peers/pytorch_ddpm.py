"""The loop of pytorch-ddpm, around our U-Net by its convention.

Written anew from the paper, since pytorch-ddpm's code has no licence: algorithms 1 and 2 and appendix B of Denoising
Diffusion Probabilistic Models (Ho et al., 2020), https://arxiv.org/abs/2006.11239, with the warm-up of 5,000 steps and
the clipping at 1 of its authors' code. Nothing is taken from our families, losses or samplers.
"""

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.peers.program import Trained, main, parser
from lightning_gen.nets import UNet

BATCH = 128
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)


def words() -> argparse.ArgumentParser:
    """With the paper's rate, warm-up and average, which are for 800,000 steps."""
    made = parser(__doc__)
    made.add_argument("--rate", type=float, default=2e-4, help="of Adam (%(default)s)")
    made.add_argument("--warmup", type=int, default=5000, help="steps in which the rate grows to it (%(default)s)")
    made.add_argument("--decay", type=float, default=0.9999, help="of the average of the weights (%(default)s)")
    return made


def train(data: Tensor, options: argparse.Namespace) -> Trained:
    """Algorithm 1."""
    net = UNet((1, 8, 8), channels=16, multipliers=(1, 2, 4), blocks=1, attention=(4,), groups=8, convention="pytorch")
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(options.decay))
    adam = torch.optim.Adam(net.parameters(), lr=options.rate)
    rates = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: min(step, options.warmup) / options.warmup)
    x, kept = data.float() / 127.5 - 1, (1 - BETAS).cumprod(0)
    signal, noisy = (a.sqrt().float().view(-1, 1, 1, 1) for a in (kept, 1 - kept))
    order = iter(())
    for _ in range(options.steps):
        index = next(order, None)
        if index is None:
            order = iter(torch.randperm(len(x))[: len(x) // BATCH * BATCH].split(BATCH))
            index = next(order)
        t, noise = torch.randint(len(BETAS), (BATCH,)), torch.randn(BATCH, *x.shape[1:])
        adam.zero_grad()
        F.mse_loss(net(signal[t] * x[index] + noisy[t] * noise, t), noise).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
        rates.step()
        average.update_parameters(net)
    average.eval()
    return Trained(
        net,
        lambda n: (ancestral(average, torch.randn(n, *x.shape[1:]), BETAS) + 1) / 2,
        f"ancestral, {len(BETAS):,} steps, variance beta",
    )


@torch.inference_mode()
def ancestral(net: Callable[[Tensor, Tensor], Tensor], x: Tensor, betas: Tensor) -> Tensor:
    """Algorithm 2 with variance beta_t: x (n, ...) from noise to data, where net(x, t) is the noise in x at t (n,)."""
    kept = (1 - betas).cumprod(0)
    for k in reversed(range(len(betas))):
        beta, left = betas[k].item(), (1 - kept[k]).item()
        x = (x - beta / left**0.5 * net(x, torch.full((len(x),), k))) / (1 - beta) ** 0.5
        if k > 0:
            x = x + beta**0.5 * torch.randn_like(x)
    return x


if __name__ == "__main__":
    main(train, words().parse_args())

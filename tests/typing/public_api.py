"""A person's program: `make lint` checks by mypy that the public calls have the types that are written here.

It is not run. assert_type fails where a call returns another type, Any among them.
"""

from functools import partial
from pathlib import Path
from typing import assert_type

import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightning_gen
from lightning_gen.data import Digits, Folder, Split
from lightning_gen.families import DDPM, RBM, VAE, GenerativeModule
from lightning_gen.losses import Loss
from lightning_gen.losses.times import Times, lognormal
from lightning_gen.metrics import frechet_of_features, kernel_distance_all, moments
from lightning_gen.models import Model
from lightning_gen.nets import Autoencoder, UNet
from lightning_gen.process import DiscreteVP, Process
from lightning_gen.questions import Mode, RePaint
from lightning_gen.questions.densities import LogProb
from lightning_gen.randomness import normal
from lightning_gen.samplers import DDIM, Sampler

adam = partial(torch.optim.Adam, lr=1e-4)

# From a run.
module = lightning_gen.load("outputs/ddpm_digits", allow=["mypkg"])
assert_type(module, GenerativeModule)
assert_type(module.sample(4, seed=1, sampler=DDIM(10)), Tensor)
assert_type(lightning_gen.save(module, Path("outputs/saved"), Digits()), Path)
assert_type(lightning_gen.push_to_hub("outputs/saved", "me/digits", private=True), str)

# What can be asked.
ask = lightning_gen.ask(module, seed=0)
x = torch.rand(2, 1, 8, 8)
assert_type(ask.log_prob(x), LogProb)
assert_type(ask.log_ratio(x, x).value, Tensor)
assert_type(ask.score(x, t=0.5), Tensor)
assert_type(ask.inpaint(x, x > 0.5, by=RePaint()), Tensor)
assert_type(ask.mode(x), Mode)
assert_type(ask.with_label(3).encode(x), Tensor)

# Families by hand.
net = UNet((1, 8, 8), channels=32)
ddpm = DDPM(net, adam, shape=(1, 8, 8), value_range=(-1.0, 1.0), ema_decay=0.999, sampler=DDIM())
assert_type(ddpm.forward(x, torch.rand(2)), Tensor)
assert_type(ddpm.averaged, Model)
assert_type(RBM(adam, (1, 8, 8), 16), RBM)
Trainer(max_steps=1).fit(ddpm, DataLoader(TensorDataset(x)))

# Data.
digits = Digits(batch_size=64)
digits.setup("fit")
assert_type(digits.split("train"), Split)
assert_type(digits.encode(digits.split("test").take(slice(0, 4))), Tensor)
Folder("pictures", size="auto", fit="pad", mode="auto", batch_size="auto")

# Functions.
process: Process = DiscreteVP([0.1, 0.2])
assert_type(process.alpha(torch.rand(2)), Tensor)
assert_type(lognormal(process, -1.2, 1.2), Times)
assert_type(normal((2, 3), torch.Generator()), Tensor)
mean, covariance = moments(torch.rand(50, 8))
frechet_of_features(torch.rand(50, 8), mean, covariance)
assert_type(kernel_distance_all(torch.rand(50, 8), torch.rand(50, 8)).value, float)


class Squared(Loss):
    """A loss of a person's own."""

    def forward(self, model: Model, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B,)."""
        return x.flatten(1).square().mean(1)


class Wide(nn.Module):
    """A network of a person's own."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Like x."""
        return x * t.view(-1, 1, 1, 1)


def half(sampler: Sampler, family: GenerativeModule) -> Tensor:
    """A function of a person's own."""
    return family.sample(2, sampler=sampler) / 2


assert_type(half(DDIM(steps=5), DDPM(Wide(), adam, shape=(1, 8, 8))), Tensor)
VAE(Autoencoder((1, 8, 8), 4), adam, shape=(1, 8, 8))

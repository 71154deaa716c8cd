"""Losses with one fault each."""

import torch
from torch import nn

from lightning_gen.losses import Loss
from lightning_gen.models import Scored


class Good(Loss):
    """The squared error of the noise at uniform times."""

    needs, supports = (Scored,), ("real",)
    factor = 1.0

    def error(self, model, x, generator):
        t = 1e-3 + (1 - 1e-3) * torch.rand(len(x), generator=generator, device=x.device)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return self.factor * model.noise(model.process.perturb(x, t, noise), t) - noise

    def forward(self, model, x, generator):
        return self.error(model, x, generator).square().flatten(1).sum(1)

    def check(self, model):
        super().check(model)
        if not model.process.prior_sigma > 0:
            raise TypeError("needs noise")


class Fits(Good):
    needs = Scored


class Accepts(Good):
    """It takes data without noise, by whose standard deviation it divides."""

    def check(self, model):
        return None

    def forward(self, model, x, generator):
        return super().forward(model, x, generator) * (1 / float(model.process.prior_sigma))


class Shape(Good):
    def forward(self, model, x, generator):
        return super().forward(model, x, generator).mean()


class Minimum(Good):
    factor = 1.2


class Gradient(Good):
    def __init__(self):
        super().__init__()
        self.critic = nn.Linear(2, 1)


class Generator(Good):
    def forward(self, model, x, generator):
        return super().forward(model, x, None)

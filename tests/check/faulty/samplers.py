"""Samplers with one fault each."""

from dataclasses import replace

import torch

from lightning_gen import samplers
from lightning_gen.models import Scored
from lightning_gen.process import instant
from lightning_gen.samplers import Stepwise, Transition


class Fits(samplers.DDIM):
    needs = Scored


class Gaussian(samplers.Langevin):
    """Half of the noise's variance; the mixture gets it, too."""

    def plan(self, model, shape):
        moves = super().plan(model, shape)
        return [replace(move, coefficients=(*move.coefficients[:2], move.coefficients[2] / 2**0.5)) for move in moves]


class Mixture(Stepwise):
    """Samples of the Gaussian whose score is that at 0 and about it: right for Gaussian data alone."""

    needs, supports = (Scored,), ("real",)

    def plan(self, model, shape):
        return [Transition(1.0, 0.0)]

    def step(self, model, x, transition, carry, generator):
        d = x[0].numel()
        points = torch.cat([torch.zeros(1, d), 1e-3 * torch.eye(d)]).to(x.dtype)
        slopes = model.score(points.view(-1, *x.shape[1:]), instant(1e-3, points)).flatten(1)
        cov = torch.linalg.inv((slopes[0] - slopes[1:]) / 1e-3)
        root = torch.linalg.cholesky((cov + cov.T) / 2)
        z = torch.randn(len(x), d, generator=generator, dtype=x.dtype)
        return (cov @ slopes[0] + z @ root.T).view_as(x), None


class Generator(samplers.Langevin):
    independent = False

    def step(self, model, x, transition, carry, generator):
        return super().step(model, x, transition, carry, None)


class Evaluations(samplers.DDIM):
    def plan(self, model, shape):
        return [replace(step, evaluations=2) for step in super().plan(model, shape)]


class Shape(samplers.DDIM):
    def step(self, model, x, transition, carry, generator):
        x, carry = super().step(model, x, transition, carry, generator)
        return (x.flatten(2) if x.ndim == 4 else x), carry


class First(samplers.Langevin):
    def step(self, model, x, transition, carry, generator):
        return super().step(model, x, transition, carry, getattr(generator, "generators", [generator])[0])

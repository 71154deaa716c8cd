"""Families with one fault each."""

import torch

from lightning_gen.families import ScoreSDE


class Good(ScoreSDE):
    """A score SDE as it is."""


class Step(Good):
    def objective(self, model, batch, noise, step):
        return super().objective(model, batch, noise, step) * torch.nan


class Resume(Good):
    """A count of the steps that no checkpoint holds."""

    count = 0

    def objective(self, model, batch, noise, step):
        self.count += 1
        return super().objective(model, batch, noise, step) * (1 + self.count)


class Samples(Good):
    def decode(self, x):
        return x / 0


class Export(Good):
    """A shift of the data that no weight holds."""

    shift = 0.0

    def initialise(self, data):
        self.shift = 0.5

    def decode(self, x):
        return super().decode(x) + self.shift

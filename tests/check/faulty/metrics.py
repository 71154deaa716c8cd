"""Metrics with one fault each: distances of means."""

import torch

from lightning_gen.metrics.registry import Measured, metric


def gap(evaluation):
    """The largest distance of the means."""
    return float((evaluation.features.double().mean(0) - evaluation.real.features.double().mean(0)).abs().max())


@metric("faulty_good", "gap", "lower")
def good(evaluation):
    return Measured(gap(evaluation), 0.05)


@metric("faulty_measured", "gap", "lower")
def measured(evaluation):
    return gap(evaluation)


@metric("faulty_known", "gap", "lower")
def known(evaluation):
    """It grows with the number of samples."""
    return Measured(gap(evaluation) + len(evaluation.features) / 100, 0.05)


@metric("faulty_direction", "gap", "higher")
def direction(evaluation):
    return Measured(gap(evaluation), 0.05)


@metric("faulty_few", "gap", "lower", least=2)
def few(evaluation):
    """The first samples are left out."""
    return Measured(gap(evaluation._replace(features=evaluation.features[4:])), 0.05)


@metric("faulty_repeated", "gap", "lower")
def repeated(evaluation):
    return Measured(gap(evaluation) + 1e-6 * float(torch.rand(())), 0.05)

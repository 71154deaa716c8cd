"""Straightness: 0 for straight paths, the integral of a known field's, what is published, and refusals."""

import math

import pytest
import torch

from lightning_gen.callbacks.loggers.record import RecordLogger
from lightning_gen.callbacks.straightness import Straightness, bends
from lightning_gen.data import Rings
from lightning_gen.errors import NonFinite
from lightning_gen.models import Denoiser
from lightning_gen.process import VP
from lightning_gen.runs.metrics_file import read_metrics
from lightning_gen.samplers import FlowODE
from tests.flows import GaussianVelocity, Straight
from tests.networks import Identity

F64 = {"dtype": torch.float64}


def test_straight_paths_have_none():
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), **F64)
    assert bends(Straight(), FlowODE(7), x).max() < 1e-12


@pytest.mark.parametrize("std", [0.3, 0.7])
def test_a_gaussians_paths_are_as_curved_as_the_integral_says(std):
    """x_t = x_1 r(t), r = sqrt((1 - t)^2 s^2 + t^2), so that the integral is x_1^2 int (1 - s - r')^2 dt."""
    x = torch.tensor([[1.0], [-2.0]], **F64)
    t = (torch.arange(100_000, **F64) + 0.5) / 100_000
    slope = (t - (1 - t) * std**2) / ((1 - t).square() * std**2 + t.square()).sqrt()
    known = float((1 - std - slope).square().mean())
    expected = known * x.squeeze(1).square()
    torch.testing.assert_close(bends(GaussianVelocity(std), FlowODE(400), x), expected, rtol=2e-3, atol=0)


def published(tmp_path, known, make_trainer, model, **options):
    module = known((2,))
    module.model, module.classes, module.trained_steps = model, None, 12
    module.weights = lambda which: model
    trainer = make_trainer(Straightness(**options), loggers=[RecordLogger(tmp_path)])
    trainer.test(module, datamodule=Rings(n=16, val_size=4, test_size=8), verbose=False)
    return read_metrics(tmp_path / "metrics.json")


def test_it_is_published_with_its_error_and_protocol(tmp_path, known, make_trainer):
    metrics = published(tmp_path, known, make_trainer, GaussianVelocity(0.7), n=200, steps=20)
    (name,) = [name for name in metrics if name.startswith("straightness")]
    result = metrics[name]
    values = bends(
        GaussianVelocity(0.7),
        FlowODE(20),
        torch.ones(1, 2),
    )
    # E x_1^2 = 1 in each dimension, and the value is proportional to it.
    assert abs(result["value"] - float(values)) < 4 * result["error"]
    assert result["error"] > 0 and result["protocol"]["n"] == 200 and result["protocol"]["sampler"]["steps"] == 20
    assert math.isfinite(result["value"])


def test_a_model_that_has_diverged_publishes_nothing(tmp_path, known, make_trainer):
    class Lost(GaussianVelocity):
        def velocity(self, x, t):
            return super().velocity(x, t) * torch.nan

    with pytest.raises(NonFinite, match="straightness"):
        published(tmp_path, known, make_trainer, Lost())


def test_a_model_without_a_finite_velocity_is_refused_before_any_work(tmp_path, known, make_trainer):
    with pytest.raises(TypeError, match="FlowODE.*velocity.*VP"):
        published(tmp_path, known, make_trainer, Denoiser(Identity(), VP()))

"""The VAE as a recipe: what it refuses, what it represents, and that the run's own loop trains it."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Trainer

from lightning_gen.data import Digits
from lightning_gen.families import VAE
from lightning_gen.nets import MLPAutoencoder
from lightning_gen.samplers import Langevin, Latent

ADAM = partial(torch.optim.Adam, lr=5e-3)


def family(shape=(1, 8, 8), **options):
    torch.manual_seed(0)
    return VAE(MLPAutoencoder(shape, 3, 32, 1), ADAM, shape=shape, **options)


def test_representation_and_reconstruction_are_the_averaged_models():
    module, x = family(likelihood="gaussian", ema_decay=0.9), torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        for parameter in module.model.parameters():
            parameter.add_(0.3)
        mean = module.ema.net.encode(x)[:, :3]
        torch.testing.assert_close(module.transform(x), mean)
        torch.testing.assert_close(module.reconstruct(x), module.ema.net.decode(mean))


@pytest.mark.parametrize("options", [{}, {"binarise": "fixed"}, {"value_range": (0.0, 1.0)}])
def test_a_bernoulli_likelihood_wants_zeros_and_ones(options):
    module = family()
    module._trainer = SimpleNamespace(datamodule=Digits(**options))
    with pytest.raises(ValueError, match="digits.*data.binarise"):
        module.setup("fit")
    module._trainer = SimpleNamespace(datamodule=Digits(binarise="fixed", value_range=(0.0, 1.0)))
    module.setup("fit")
    module = family(likelihood="gaussian")
    module._trainer = SimpleNamespace(datamodule=Digits(**options))
    module.setup("fit")


@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_training_raises_the_bound_and_learns_the_scale(objective, tmp_path):
    """Test digits cost fewer nats than under the best N(mean, s^2 I), which needs no latent variable."""
    data = Digits(batch_size=64)
    samples = 4 if objective == "iwae" else 1
    module = family(likelihood="gaussian", objective=objective, samples=samples, sampler=Latent())
    quiet = ("enable_checkpointing", "enable_model_summary", "enable_progress_bar", "logger")
    Trainer(
        accelerator="cpu", devices=1, max_epochs=12, default_root_dir=str(tmp_path), **dict.fromkeys(quiet, False)
    ).fit(module, datamodule=data)
    x = data.encode(data.split("test").take(slice(None)))
    with torch.no_grad():
        nats = module.loss(module.model, x, torch.Generator().manual_seed(0)).mean()
    variance = float(x.var(0).mean())
    assert nats < 32 * math.log(2 * math.pi * math.e * variance) - 2
    assert module.model.log_scale.exp() < 0.7, "it began at 1"
    assert torch.equal(module.sample(70, seed=1)[:64], module.sample(64, seed=1))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: family(objective="elbow"), "objective.*elbow.*elbo, iwae"),
        (lambda: family(objective="iwae", beta=4.0), "beta.*4.0.*iwae"),
        (lambda: family(beta=-1.0), "beta.*-1.0"),
        (lambda: family(samples=0), "samples.*0"),
        (lambda: family(classes=10), "module.classes.*10.*net.classes.*None"),
    ],
)
def test_what_cannot_be_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_sampler_without_a_score_to_follow_is_refused():
    with pytest.raises(TypeError, match="latent"):
        family(likelihood="gaussian", sampler=Langevin(3))

"""The exact likelihood: log p of whole numbers as it is, in nats and in bits/dim that name their levels."""

import json
import math
from functools import partial

import pytest
import torch

from lightning_gen.callbacks import ExactLikelihood
from lightning_gen.data import Digits
from lightning_gen.families import VAE, Autoregressive
from lightning_gen.nets import MADE, MLPAutoencoder
from lightning_gen.results.result import Name
from lightning_gen.samplers import Latent, Sequential
from tests.data.sets import ready

ADAM = partial(torch.optim.Adam, lr=3e-3)
BITS = {"binarise": "fixed", "value_range": (0.0, 1.0)}
GREY = {"value_range": (0.0, 16.0)}


def family(levels):
    torch.manual_seed(0)
    net = MADE((1, 8, 8), levels, width=64, orderings=3)
    return Autoregressive(net, ADAM, shape=(1, 8, 8), sampler=Sequential())


@pytest.mark.parametrize(("levels", "options"), [(17, GREY), (2, BITS)])
def test_published_numbers_are_those_of_log_p(levels, options, make_trainer, tmp_path):
    data = ready(Digits(**options))
    module = family(levels)
    make_trainer(ExactLikelihood(n=50, batch=32, weights="raw")).test(module, datamodule=data, verbose=False)
    published = json.loads((tmp_path / "metrics.json").read_text())
    with torch.no_grad():
        nats = module.model.log_prob(data.encode(data.split("test").take(slice(50)))).double()
    entry, bits = published["exact/log_likelihood/raw"], published["exact/bits_per_dim/raw"]
    assert (entry["kind"], bits["kind"], bits["protocol"]["levels"]) == ("exact", "exact", levels)
    assert entry["value"] == pytest.approx(float(nats.mean()), abs=1e-4)
    assert entry["error"] == pytest.approx(float(nats.std()) / math.sqrt(50), rel=1e-4)
    assert bits["value"] == pytest.approx(-float(nats.mean()) / 64 / math.log(2), rel=1e-5)
    assert bits["protocol"]["dequantisation"] == "none"
    names = ExactLikelihood(weights="raw").publishes(module)
    assert names == {Name("exact/log_likelihood", None, "raw"), Name("exact/bits_per_dim", None, "raw")}


def test_no_exact_likelihood_of_a_bound(make_trainer):
    module = VAE(MLPAutoencoder((1, 8, 8), 2, 8, 1), ADAM, shape=(1, 8, 8), sampler=Latent())
    with pytest.raises(TypeError, match="ExactLikelihood.*VAE.*callbacks.likelihood=null"):
        make_trainer(ExactLikelihood()).test(module, datamodule=Digits(**BITS), verbose=False)

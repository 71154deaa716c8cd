"""Flows as a recipe: what it refuses, one initialisation that a resume keeps, equal ranks, likelihoods of each kind."""

import json
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch

import run as entry
from lightning_gen.data import Digits, Rings
from lightning_gen.families import Flow
from lightning_gen.losses import ExactScoreMatching
from lightning_gen.nets import NSF, Glow, RealNVP
from lightning_gen.nets.flows import ActNorm
from lightning_gen.results.drawing import to_uint8
from lightning_gen.runs.load import load
from tests.data.sets import ready
from tests.processes import two

ADAM = partial(torch.optim.Adam, lr=1e-3)
TINY = ("experiment=realnvp_rings", "logger=none", "quality=none", "net.width=8", "net.couplings=2", "net.scale=1")
TINY += ("data.n=256", "data.batch_size=64", "data.val_size=8", "data.test_size=64", "trainer.log_every_n_steps=1")
TINY += (
    "callbacks.pictures=null",
    "callbacks.curves=null",
    "callbacks.field=null",
    "trainer.check_val_every_n_epoch=1000",
)
IMAGE = {"shape": (1, 8, 8), "value_range": (-1.0, 1.0)}


def points(**options):
    torch.manual_seed(0)
    return Flow(RealNVP((2,), 8, couplings=2), ADAM, shape=(2,), **options)


def images(**options):
    torch.manual_seed(0)
    return Flow(Glow((1, 8, 8), 8, 1, 2), ADAM, **IMAGE, **{"levels": 17, **options})


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: points(dequantisation="uniform"), ValueError, "module.dequantisation.*uniform"),
        (lambda: points(logit=0.05), ValueError, "module.logit.*0.05"),
        (lambda: images(dequantisation="none"), ValueError, "dequantisation.*none.*uniform"),
        (lambda: images(dequantisation="uniform", logit=0.5), ValueError, "logit.*0.5"),
        (lambda: Flow(NSF((2,), 4), ADAM, ExactScoreMatching()), TypeError, "ExactScoreMatching.*knots"),
        (lambda: Flow(Glow((1, 8, 8), 4, 1, 1), ADAM, ExactScoreMatching()), TypeError, "ExactScoreMatching.*relu"),
        (lambda: points(classes=3), ValueError, "module.classes.*3"),
    ],
)
def test_what_cannot_be_is_refused(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


@pytest.mark.parametrize(
    ("options", "data", "sentence"),
    [
        ({}, {}, "module.dequantisation.*null.*digits"),
        ({"dequantisation": "uniform"}, {"binarise": "fixed"}, "data.binarise.*fixed"),
        ({"dequantisation": "uniform", "levels": 256}, {}, "module.levels.*256.*digits.*17"),
    ],
)
def test_whole_levels_need_dequantisation(options, data, sentence):
    module = images(**options)
    module._trainer = SimpleNamespace(datamodule=ready(Digits(**data)))
    with pytest.raises(ValueError, match=sentence):
        module.setup("fit")


@pytest.mark.parametrize("dequantisation", ["uniform", "variational"])
@pytest.mark.parametrize("logit", [None, 0.05])
def test_initialisation_standardises_digits_and_the_average_has_it_too(dequantisation, logit):
    module = images(dequantisation=dequantisation, logit=logit, ema_decay=0.9)
    data = ready(Digits())
    module._trainer = SimpleNamespace(datamodule=data)
    module.setup("fit")
    for model in (module.model, module.ema):
        assert all(layer.log_scale.abs().min() > 0 for layer in model.modules() if type(layer) is ActNorm)
    with torch.no_grad():
        y, _ = module.model.dequantise(data.encode(data.split("train").take(slice(None))), torch.Generator())
        z = module.model.encode(y)[0]
    assert abs(float(z.mean())) < 0.2 and abs(float(z.std()) - 1) < 0.2
    first = {name: value.clone() for name, value in module.model.state_dict().items()}
    again = images(dequantisation=dequantisation, logit=logit, ema_decay=0.9)
    again.initialise(data)
    assert all(torch.equal(value, first[name]) for name, value in again.model.state_dict().items())


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path):
    """A second initialisation would change ActNorm."""
    assert entry.main([*TINY, "trainer.max_steps=6", f"run={tmp_path / 'whole'}"]) == 0
    for steps in (3, 6):
        assert entry.main([*TINY, f"trainer.max_steps={steps}", f"run={tmp_path / 'parts'}"]) == 0
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys() and all(torch.equal(whole[key], parts[key]) for key in whole)
    row = json.loads((tmp_path / "whole" / "metrics.json").read_text())["exact/log_likelihood/ema"]
    module = points(ema_decay=0.9)
    module.load_weights(whole)
    x = ready(Rings(n=256, val_size=8, test_size=64)).split("test").take(slice(None)).float()
    with torch.no_grad():
        nats = module.ema.log_prob(x).double()
    assert (row["kind"], row["unit"]) == ("exact", "nats")
    assert row["value"] == pytest.approx(float(nats.mean()), rel=1e-6)
    assert row["error"] == pytest.approx(float(nats.std()) / 8, rel=1e-5)


@pytest.mark.parametrize("dequantisation", ["uniform", "variational"])
def test_of_images_the_likelihood_is_a_bound_and_says_so(dequantisation, tmp_path):
    words = ("experiment=glow_digits", "logger=none", "quality=none", "net.channels=8", "net.steps=1")
    words += (
        "callbacks.pictures=null",
        "callbacks.curves=null",
        "trainer.check_val_every_n_epoch=1000",
        f"module.dequantisation={dequantisation}",
    )
    words += ("callbacks.likelihood.draws=3", "callbacks.likelihood.n=100", "trainer.max_steps=2", f"run={tmp_path}")
    assert entry.main(list(words)) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())
    nats, bits = (found[f"exact/{name}/ema"] for name in ("log_likelihood", "bits_per_dim"))
    assert (nats["kind"], bits["kind"]) == ("lower bound", "upper bound")
    assert bits["protocol"]["dequantisation"] == dequantisation and bits["protocol"]["draws"] == 3
    # Of a density in model space, whose bins, of the digits' 17 levels, are 2/16 wide.
    assert bits["protocol"]["levels"] == 17
    assert bits["value"] == pytest.approx(-(nats["value"] / 64 + math.log(2 / 16)) / math.log(2), rel=1e-6)
    assert bits["error"] == pytest.approx(nats["error"] / 64 / math.log(2), rel=1e-6)
    assert 0 < bits["value"] < math.log2(17)
    # And its samples are images as the data have them.
    levels = {round(255 * k / 16) for k in range(17)}
    assert {*to_uint8(load(tmp_path).sample(20)).flat} <= levels


WORKER = """
import sys
import torch
from lightning_gen.families import Flow
import run as entry

def start(self):
    original(self)
    torch.save(self.model.state_dict(), f"{folder}/rank-{self.global_rank}.pt")

folder, original, Flow.on_train_start = sys.argv[1], Flow.on_train_start, start
sys.exit(entry.main([*sys.argv[2:], f"run={folder}/run"]))
"""


@pytest.mark.slow
def test_actnorm_is_equal_on_all_ranks_and_that_of_one_process(tmp_path):
    """Each rank's own weights at the start: the samples of the initialisation are the same, whatever the rank."""
    two(
        "-c",
        WORKER,
        str(tmp_path),
        *TINY,
        "trainer=ddp_cpu",
        "trainer.max_steps=2",
    )
    one, other = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(2))
    module = points()
    module.initialise(ready(Rings(n=256)))
    for key, value in one.items():
        assert torch.equal(value, other[key])
        if "log_scale" in key:
            torch.testing.assert_close(value, module.model.state_dict()[key])

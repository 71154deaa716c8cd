"""Annealed importance sampling of decoders as a callback: numbers by hand, kinds, protocol, refusals."""

import json
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from lightning_gen.callbacks import DecoderAnnealedImportance, ImportanceLikelihood
from lightning_gen.data import Rings
from lightning_gen.families import GAN
from lightning_gen.likelihood import DecoderAIS, FlowProposal, PriorProposal, bounds, dequantised
from lightning_gen.likelihood.importance import log_weights
from lightning_gen.losses import NonSaturating
from lightning_gen.nets import MLPAdversaries
from lightning_gen.randomness import generator
from lightning_gen.samplers import HMC, Latent
from tests.callbacks.likelihood.latent_parts import BINARY, GREY, digits, family

SHORT = {"chains": 3, "schedule": 4, "transition": HMC(1, 0.1, 2), "burn": 2, "n": 20}


def gan(classes=None):
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=1e-3)
    return GAN(
        MLPAdversaries((2,), 2, 8, 1, None if classes is None else classes + 1),
        adam,
        loss=NonSaturating(),
        sampler=Latent(),
        shape=(2,),
        ema_decay=0.9,
        classes=classes,
    )


def rings():
    data = Rings(n=200, val_size=10, test_size=60)
    data.setup()
    return data


@pytest.fixture
def measured(make_trainer, tmp_path):
    def measure(made, data, callback):
        (tmp_path / "metrics.json").unlink(missing_ok=True)
        make_trainer(callback, inference_mode=False).test(made, datamodule=data, verbose=False)
        found = json.loads((tmp_path / "metrics.json").read_text())
        assert set(found) == {str(name) for name in callback.publishes(made)}
        return found

    return measure


def test_a_vae_has_a_bound_an_estimate_and_a_gap(measured):
    data = digits(**GREY)
    found = measured(family(), data, DecoderAnnealedImportance(**SHORT))
    kinds = {name: row["kind"] for name, row in found.items()}
    assert kinds == {
        "ais/log_likelihood/forward/ema": "lower bound",
        "ais/log_likelihood/reverse/ema": "estimate",
        "ais/bits_per_dim/forward/ema": "upper bound",
        "ais/bits_per_dim/reverse/ema": "estimate",
        "bdmc/log_p/forward/ema": "lower bound",
        "bdmc/log_p/reverse/ema": "upper bound",
        "bdmc/gap/ema": "upper bound",
    }
    noise, ais = generator(0, "ais", 0), DecoderAIS(3, 4, HMC(1, 0.1, 2))
    x = dequantised(data.encode(data.split("test").take(slice(20))), (-1.0, 1.0), noise)
    nats = ais.estimate(ais.path(family().ema.eval(), x, noise), noise).nats
    row = found["ais/log_likelihood/forward/ema"]
    assert row["value"] == pytest.approx(float(nats.mean()), rel=1e-6)
    assert row["error"] == pytest.approx(float(nats.std()) / 20**0.5, rel=1e-5)
    sides = [found[f"bdmc/log_p/{side}/ema"] for side in ("forward", "reverse")]
    gap = found["bdmc/gap/ema"]["value"]
    assert gap > 0 and gap == pytest.approx(sides[1]["value"] - sides[0]["value"])
    protocol = row["protocol"]
    assert (protocol["likelihood"], protocol["chains"], protocol["temperatures"]) == ("gaussian", 3, 4)
    assert protocol["deviation"] == pytest.approx(0.4)
    assert sides[1]["protocol"]["data"] != protocol["data"] == data.split("test").fingerprint()


def test_binary_images_have_the_bits_of_their_probability(measured):
    made = family("bernoulli", value_range=(0.0, 1.0), ema_decay=None)
    found = measured(made, digits(**BINARY), DecoderAnnealedImportance(**SHORT))
    row, bits = found["ais/log_likelihood/forward/raw"], found["ais/bits_per_dim/forward/raw"]
    assert bits["value"] == pytest.approx(-row["value"] / 64 / math.log(2)) and bits["protocol"]["levels"] == 2
    assert (row["protocol"]["likelihood"], row["protocol"]["deviation"]) == ("bernoulli", None)


@pytest.mark.parametrize("classes", [None, 4])
def test_a_gan_has_the_deviation_that_was_named(measured, classes):
    found = measured(gan(classes), rings(), DecoderAnnealedImportance(**SHORT, deviation=0.3))
    assert set(found) == {"ais/log_likelihood/forward/ema", "bdmc/log_p/forward/ema", "bdmc/log_p/reverse/ema",
                          "bdmc/gap/ema"}  # fmt: skip
    protocol = found["ais/log_likelihood/forward/ema"]["protocol"]
    assert (protocol["likelihood"], protocol["deviation"]) == ("gaussian", 0.3)
    assert protocol["conditional"] == (classes is not None)


def test_what_has_no_density_is_refused():
    binary = family("bernoulli", value_range=(0.0, 1.0))
    cases = [
        (DecoderAnnealedImportance(), gan(), rings(), "Generator.*callbacks.likelihood.deviation"),
        (DecoderAnnealedImportance(deviation=0.1), binary, digits(**BINARY), "deviation is 0.1.*VAE.*null"),
        (DecoderAnnealedImportance(), family(value_range=None), digits(**GREY), "data.value_range, got null"),
    ]
    for callback, made, data, sentence in cases:
        with pytest.raises((TypeError, ValueError), match=sentence):
            callback.setup(SimpleNamespace(datamodule=data), made, "test")


def test_each_proposal_has_its_own_name_and_the_flow_is_fitted_before(measured):
    made, data, protocols = family(shape=(2,), value_range=None), rings(), []
    for proposal in (PriorProposal(), FlowProposal(steps=2, batch=20, width=4, couplings=2)):
        found = measured(made, data, ImportanceLikelihood(samples=5, n=20, proposal=proposal))
        (name,) = found
        assert name == f"{proposal.method}/log_likelihood/ema" and found[name]["kind"] == "lower bound"
        protocols.append(found[name]["protocol"])
    assert [each["proposal"]["name"] for each in protocols] == ["PriorProposal", "FlowProposal"]
    fitted = FlowProposal(steps=2, batch=20, width=4, couplings=2).fit(made.ema.eval(), generator(0, "proposal"))
    x = data.encode(data.split("test").take(slice(20)))
    nats = bounds(log_weights(made.ema, x, 5, generator(0, "importance", 0), proposal=fitted)).iwae
    assert found[name]["value"] == pytest.approx(float(nats.mean()), rel=1e-6)


def test_a_gan_is_weighed_by_draws_of_its_prior(measured):
    found = measured(gan(4), rings(), ImportanceLikelihood(samples=50, n=20, proposal=PriorProposal(), deviation=0.5))
    assert found["likelihood_weighting/log_likelihood/ema"]["protocol"]["deviation"] == 0.5
    with pytest.raises(TypeError, match="EncoderProposal needs an encoder.*choose PriorProposal"):
        ImportanceLikelihood(deviation=0.5).setup(SimpleNamespace(datamodule=rings()), gan(), "test")

"""Likelihoods of energies as callbacks: each side named for what it bounds, and refused where there is none."""

import math

import pytest
import torch

from lightning_gen.callbacks import AnnealedImportance, measuring
from lightning_gen.data import Digits, Rings
from lightning_gen.errors import NonFinite
from lightning_gen.families import EBM, RBM, GaussianBernoulliRBM, ScoreMatching
from lightning_gen.families.rbm import data_moments
from lightning_gen.likelihood import annealing_path, bits_per_dim, dequantised
from lightning_gen.losses import NCE, ContrastiveDivergence
from lightning_gen.models import EnergyNetwork
from lightning_gen.nets import MLP
from lightning_gen.process import Clean
from lightning_gen.randomness import generator
from lightning_gen.samplers import MALA, Gibbs, Langevin
from tests.callbacks.trainers import Alone
from tests.data.sets import ready

SGD = lambda parameters: torch.optim.SGD(parameters, lr=0.1)  # noqa: E731


@pytest.fixture
def published(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        measuring, "publish", lambda trainer, results, final: seen.update({str(each.name): each for each in results})
    )
    return seen


@pytest.fixture(scope="module")
def binary():
    return ready(Digits(binarise="fixed", value_range=(0.0, 1.0)))


@pytest.fixture(scope="module")
def grey():
    return ready(Digits(value_range=(-0.8124, 1.8429)))


def rbm_module(kind, data, hidden=6):
    torch.manual_seed(0)
    made = kind(SGD, data.shape, hidden, std=0.3, value_range=data.value_range, sampler=Gibbs(2))
    made.initialise(data)
    return made


@pytest.mark.parametrize("hidden", [6, 24])
def test_an_rbms_likelihood_from_both_sides_and_exactly(binary, published, hidden):
    module = rbm_module(RBM, binary, hidden)
    measure = AnnealedImportance(chains=60, schedule=400, burn=20)
    trainer = Alone(binary, module)
    measure.setup(trainer, module, "test")
    measure.on_test_epoch_end(trainer, module)
    v = binary.encode(binary.split("test").take(slice(None)))
    energy = module.model.energy(v).double().detach()
    forward, reverse = (published[f"ais/log_likelihood/{side}/raw"] for side in ("forward", "reverse"))
    assert forward.kind == "upper bound" and published["ais/log_z/forward/raw"].kind == "lower bound"
    assert abs(forward.value - reverse.value) < 0.1
    assert forward.protocol["binarisation"] == "fixed" and forward.protocol["dequantisation"] == "none"
    assert forward.protocol["n"] == len(v) and 1 < forward.protocol["ess"] <= 60
    assert forward.error > float(energy.std()) / len(v) ** 0.5
    if hidden == 6:
        assert reverse.kind == "lower bound" and reverse.protocol["started"] == "exact samples"
        exact = published["exact/log_likelihood/raw"]
        truth = float((-energy).mean() - module.model.exact_log_z().detach())
        assert exact.kind == "exact" and exact.value == pytest.approx(truth, abs=1e-9)
        assert abs(forward.value - truth) < 4 * published["ais/log_z/forward/raw"].error + 0.01
    else:
        assert reverse.kind == "estimate" and reverse.protocol["started"] == "after 20 steps from training data"
        assert "exact/log_likelihood/raw" not in published


def test_a_gaussian_rbms_bits_are_those_of_dequantised_pixels(grey, published):
    module = rbm_module(GaussianBernoulliRBM, grey)
    measure = AnnealedImportance(chains=60, schedule=300, n=50, reverse=False)
    measure.on_test_epoch_end(Alone(grey, module), module)
    x = grey.encode(grey.split("test").take(slice(0, 50)))
    spread = dequantised(x, grey.value_range, generator(0, "dequantise", 0))
    nats = (-module.model.energy(spread).double() - module.model.exact_log_z()).detach()
    exact, bits = published["exact/log_likelihood/raw"], published["exact/bits_per_dim/raw"]
    assert exact.value == pytest.approx(float(nats.mean()), abs=1e-6)
    assert bits.value == pytest.approx(float(bits_per_dim(nats, 64, grey.value_range).mean()), abs=1e-6)
    assert bits.kind == "estimate" and exact.protocol["dequantisation"] == "uniform"
    found = published["ais/log_likelihood/forward/raw"]
    assert abs(found.value - exact.value) < 4 * published["ais/log_z/forward/raw"].error + 0.02
    assert published["ais/bits_per_dim/forward/raw"].kind == "estimate"  # bounded from both sides by two bounds
    assert not any("reverse" in name for name in published)


class Bowl(torch.nn.Module):
    """f = 0 for points: with a confining term the energy is a Gaussian's."""

    growth, classes = "bounded", None

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, t):
        return self.weight * x


def test_a_deep_energy_by_proposals(published):
    data = ready(Rings(n=500, val_size=10, test_size=200))
    module = EBM(Bowl(), NCE(1.0), SGD, readout="norm", confine=0.7, shape=(2,))
    measure = AnnealedImportance(chains=100, schedule=200, burn=50, transition=MALA(1, 1e-7))
    measure.setup(Alone(data, module), module, "test")
    measure.on_test_epoch_end(Alone(data, module), module)
    truth = math.log(2 * math.pi * 0.7**2)
    for side in ("forward", "reverse"):
        z = published[f"ais/log_z/{side}/raw"]
        assert abs(z.value - truth) < 4 * z.error + 0.01
        assert abs(z.protocol["acceptance"] - 0.574) < 0.1
        first, last = z.protocol["step_sizes"]
        assert first > 0 and 0.3 < last / 0.7**2 < 3  # in units of the variance it moves in
    assert published["ais/log_z/reverse/raw"].kind == "estimate"
    assert "ais/bits_per_dim/forward/raw" not in published


def test_an_untuned_transition_keeps_its_step_size(published):
    data = ready(Rings(n=500, val_size=10, test_size=200))
    module = EBM(Bowl(), NCE(1.0), SGD, readout="norm", confine=0.7, shape=(2,))
    measure = AnnealedImportance(chains=50, schedule=20, burn=2, transition=MALA(1, 1e-7), tune=False)
    measure.on_test_epoch_end(Alone(data, module), module)
    for side in ("forward", "reverse"):
        assert published[f"ais/log_z/{side}/raw"].protocol["acceptance"] > 0.999
        assert "step_sizes" not in published[f"ais/log_z/{side}/raw"].protocol


def test_two_ranks_draw_the_chains_of_one(binary):
    module = rbm_module(RBM, binary, 24)
    measure = AnnealedImportance(chains=120, schedule=10, burn=3)
    path = annealing_path(module.model, *data_moments(binary), measure.transition)
    for side in measure.sides:
        alone, _ = measure.side(Alone(binary, module), module.model, path, side)
        parts = [measure.side(Alone(binary, module, rank, 2), module.model, path, side)[0] for rank in (0, 1)]
        assert torch.equal(sum(parts), alone)


def energy_module(loss=None, sampler=None, **options):
    net = MLP((2,), width=8, depth=1)
    return EBM(net, NCE(1.0) if loss is None else loss, SGD, shape=(2,), sampler=sampler, **options)


COLD = Langevin(5, 0.1, temperature=0.1)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: energy_module(), "module.confine"),
        (lambda: energy_module(readout="product", confine=1.0), "confin"),
        (lambda: energy_module(confine=1.0, sampler=COLD), "module.sampler.temperature.*0.1"),
        (lambda: energy_module(ContrastiveDivergence(COLD), confine=1.0), "module.loss.sampler.temperature.*0.1"),
        (lambda: ScoreMatching(MLP((2,), 8, 1), SGD, sigma=0.1, shape=(2,)), "ScoreNetwork"),
    ],
)
def test_what_has_no_likelihood_is_refused_before_any_work(make, sentence, grey):
    with pytest.raises((ValueError, TypeError), match=sentence):
        AnnealedImportance().setup(Alone(grey), make(), "test")


def test_a_cold_transition_is_refused(grey):
    with pytest.raises(ValueError, match="callbacks.likelihood.transition.temperature.*2"):
        measure = AnnealedImportance(transition=MALA(1, 0.1, temperature=2.0))
        measure.setup(Alone(grey), energy_module(confine=1.0), "test")


@pytest.mark.parametrize("wrong", [{"chains": 1}, {"burn": 0}, {"n": 1}, {"split": "all"}, {"weights": "best"}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
        AnnealedImportance(**wrong)


def test_a_diverged_rbm_gives_no_number(binary, published):
    module = rbm_module(RBM, binary)
    module.model.W.data[0, 0] = torch.nan
    with pytest.raises(NonFinite, match=r"forward.*not finite.*step 7"):
        AnnealedImportance(chains=4, schedule=3).on_test_epoch_end(Alone(binary, module), module)
    assert not published


def test_normalisable_is_a_statement_about_any_weights():
    assert EnergyNetwork(MLP((2,), 8, 1), Clean(), "norm", 1.0).why_unnormalisable() is None
    assert "confining" in EnergyNetwork(MLP((2,), 8, 1), Clean(), "norm").why_unnormalisable()

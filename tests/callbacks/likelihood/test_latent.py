"""Importance sampling, kernel density and representations as callbacks: numbers by hand, kinds, refusals, ranks."""

import copy
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lightning_gen.callbacks import ImportanceLikelihood, KernelDensityLikelihood, Representations
from lightning_gen.callbacks.representations import GridCodes
from lightning_gen.data import Rings, Shapes
from lightning_gen.errors import NonFinite
from lightning_gen.families import DDPM, RBM
from lightning_gen.families.execution import called
from lightning_gen.likelihood import bits_per_dim, bounds, dequantised, kernel_density
from lightning_gen.likelihood.importance import log_weights
from lightning_gen.nets import MLP, MLPAutoencoder
from lightning_gen.randomness import derived_seed, generator
from lightning_gen.representations import clustering, linear_probe, mig
from lightning_gen.representations.disentanglement import draw_factors
from lightning_gen.representations.encoders import Bottleneck
from tests.callbacks.likelihood.latent_parts import BINARY, GREY, digits, family, main, measures
from tests.processes import two

SGD = lambda parameters: torch.optim.SGD(parameters, lr=0.1)  # noqa: E731


@pytest.fixture(scope="module")
def grey():
    return digits(**GREY)


@pytest.fixture(scope="module")
def binary():
    return digits(**BINARY)


@pytest.fixture
def measured(make_trainer, tmp_path):
    def measure(made, data, *found):
        make_trainer(*found, inference_mode=False).test(made, datamodule=data, verbose=False)
        return json.loads((tmp_path / "metrics.json").read_text())

    return measure


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """metrics.json of one process."""
    folder = tmp_path_factory.mktemp("alone")
    main(str(folder))
    return json.loads((folder / "metrics.json").read_text())


def test_the_bounds_are_those_of_dequantised_test_images(alone, grey):
    made, nats = family(), []
    with torch.no_grad():
        for start in (0, 32):
            rows = torch.arange(start, min(start + 32, 50))
            noise = generator(0, "importance", start)
            x = dequantised(grey.encode(grey.split("test").take(rows)), (-1.0, 1.0), noise)
            nats.append(log_weights(made.ema.eval(), x, 20, noise))
    found = bounds(torch.cat(nats))
    for name, values in (("iwae", found.iwae), ("elbo", found.elbo)):
        row = alone[f"{name}/log_likelihood/ema"]
        assert row["kind"] == "lower bound" and row["unit"] == "nats"
        assert row["value"] == pytest.approx(float(values.mean()), rel=1e-6)
        assert row["error"] == pytest.approx(float(values.std()) / 50**0.5, rel=1e-5)
        bits = alone[f"{name}/bits_per_dim/ema"]
        assert bits["kind"] == "upper bound"
        assert bits["value"] == pytest.approx(float(bits_per_dim(values, 64, (-1.0, 1.0)).mean()), rel=1e-6)
        assert bits["error"] == pytest.approx(row["error"] / 64 / math.log(2))
    protocol = alone["iwae/log_likelihood/ema"]["protocol"]
    assert protocol["ess"] == pytest.approx(float(found.ess.mean()), rel=1e-5)
    assert (protocol["samples"], protocol["n"], protocol["dequantisation"]) == (20, 50, "uniform")
    assert alone["iwae/log_likelihood/ema"]["value"] > alone["elbo/log_likelihood/ema"]["value"]


def test_binary_images_have_the_bits_of_their_probability(measured, binary):
    made = family("bernoulli", value_range=(0.0, 1.0), ema_decay=None)
    found = measured(made, binary, ImportanceLikelihood(samples=5, n=20))
    row, bits = found["iwae/log_likelihood/raw"], found["iwae/bits_per_dim/raw"]
    assert bits["value"] == pytest.approx(-row["value"] / 64 / math.log(2)) and bits["protocol"]["levels"] == 2
    assert (row["protocol"]["binarisation"], row["protocol"]["dequantisation"]) == ("fixed", "none")


def kde_rows(data, name, count, levels=None):
    rows = torch.randperm(len(data.split(name)), generator=generator(0, "subset", "kde", name))[:count]
    x = data.encode(data.split(name).take(rows))
    if levels == 256:
        x = dequantised(x, (-1.0, 1.0), generator(0, "dequantise", "kde", name))
    if levels == 2:  # uniform over [-1/2, 3/2], whose bins of width 1 have their values in the middle
        u = torch.rand(x.shape, generator=generator(0, "dequantise", "kde", name))
        x = x + u - 0.5
    return x.flatten(1)


def test_the_kernel_density_is_that_of_the_models_samples_and_of_training_data(alone, grey):
    made, points = family(), kde_rows(grey, "test", 40, 256)
    samples = torch.cat([x for _, x in made.blocks(90, 0, size=32)]).flatten(1)
    for label, centres in (("ema", samples), ("held-out", kde_rows(grey, "train", 90))):
        nats = kernel_density(centres.numpy(), points.numpy()).nats
        row, bits = alone[f"kde/log_likelihood/{label}"], alone[f"kde/bits_per_dim/{label}"]
        assert row["kind"] == bits["kind"] == "KDE"
        assert row["value"] == pytest.approx(nats.mean(), rel=1e-5)
        assert row["error"] == pytest.approx(nats.std(ddof=1) / 40**0.5, rel=1e-5)
        expected = bits_per_dim(torch.tensor(nats), 64, (-1.0, 1.0)).mean()
        assert bits["value"] == pytest.approx(float(expected), rel=1e-5)
        assert row["protocol"]["warning"] and row["protocol"]["dimensions"] == 64


def test_binary_images_are_spread_over_bins_of_width_one(measured, binary):
    made = family("bernoulli", value_range=(0.0, 1.0))
    found = measured(made, binary, KernelDensityLikelihood(n=60, points=30))
    samples = torch.cat([x for _, x in made.blocks(60, 0)]).flatten(1)
    nats = kernel_density(samples.numpy(), kde_rows(binary, "test", 30, 2).numpy()).nats
    assert found["kde/log_likelihood/ema"]["value"] == pytest.approx(nats.mean(), rel=1e-5)
    assert found["kde/bits_per_dim/ema"]["value"] == pytest.approx(-nats.mean() / 64 / math.log(2), rel=1e-5)


def test_points_have_nats_alone(measured):
    data = Rings(n=200, val_size=10, test_size=60)
    data.setup()
    made = family(shape=(2,), value_range=None)
    found = measured(made, data, KernelDensityLikelihood(n=60, points=30), ImportanceLikelihood(samples=3))
    names = {"kde/log_likelihood/ema", "kde/log_likelihood/held-out", "iwae/log_likelihood/ema"}
    assert set(found) == names | {"elbo/log_likelihood/ema"}
    assert found["kde/log_likelihood/ema"]["protocol"]["dequantisation"] == "none"


def test_what_the_representation_knows(alone, grey):
    made, split = family(), grey.split("test")

    def rows(name, count):
        place = generator(0, "subset", "representation", name)
        return torch.randperm(len(grey.split(name)), generator=place)[:count]

    def codes(name, count):
        x = grey.encode(grey.split(name).take(rows(name, count)))
        return made.transform(x), grey.split(name).labels(rows(name, count)).numpy(), x

    test, labels, x = codes("test", 50)
    train, known, _ = codes("train", 150)
    clusters = clustering(test.numpy(), labels, 10)
    for name, value in clusters._asdict().items():
        assert alone[f"{name}/posterior/ema"]["value"] == pytest.approx(value, abs=1e-6)
    probe = linear_probe(train.numpy(), known, test.numpy(), labels)
    row = alone["probe_accuracy/posterior/ema"]
    assert (row["value"], row["error"]) == pytest.approx(probe[:2]) and row["protocol"]["n_train"] == 150
    mse = ((x - made.reconstruct(x)).clamp(-9, 9) / 2).square()  # in [0, 1], where nothing lies outside
    inside = (made.reconstruct(x).abs() <= 1).flatten(1).all(1)
    assert alone["mse/posterior/ema"]["value"] <= float(mse.mean()) + 1e-6
    if inside.all():
        assert alone["mse/posterior/ema"]["value"] == pytest.approx(float(mse.mean()), rel=1e-5)
    assert {"psnr/posterior/ema", "ssim/posterior/ema"} <= set(alone)
    assert not [name for name in alone if "dci" in name or "mig" in name], "digits know no factors"
    assert row["protocol"]["data"] == split.fingerprint()


class Tiny(Shapes):
    """A few of the pictures' factors, so that all measures take a second."""

    factor_sizes = (3, 2, 2, 3, 3)

    def draw(self):
        whole = super_images()
        picked = [torch.linspace(0, a - 1, b).round().long() for a, b in zip((3, 4, 8, 8, 8), self.factor_sizes)]  # noqa: B905
        for axis, rows in enumerate(picked):
            whole = whole.index_select(axis, rows)
        return whole.reshape(-1, 1, 16, 16)


def super_images():
    return Shapes(size=16).all_images().view(3, 4, 8, 8, 8, 16, 16)


def test_disentanglement_is_that_of_the_whole_grid(measured):
    data = Tiny(size=16, val_size=8, test_size=20)
    data.setup()
    made = family(shape=(1, 16, 16))
    options = {"metrics": ["disentanglement"], "train": 200, "evaluate": 100, "batch": 16}
    found = measured(made, data, Representations(**options))
    scores = ("beta_vae_score", "factor_vae_score", "mig", "sap", "modularity")
    scores += ("dci_disentanglement", "dci_completeness", "dci_informativeness")
    assert set(found) == {f"{name}/posterior/ema" for name in scores}
    assert all(0 <= row["value"] <= 1 for row in found.values())
    factors = draw_factors(data.factor_sizes, 200, np.random.default_rng(derived_seed(0, "factors", "train")))
    x = data.encode(data.all_images()[data.combinations(torch.from_numpy(factors))])
    assert found["mig/posterior/ema"]["value"] == pytest.approx(
        mig(made.transform(x).double().numpy(), factors), abs=1e-6
    )
    protocol = found["mig/posterior/ema"]["protocol"]
    assert (protocol["split"], protocol["draws_train"], protocol["bins"]) == ("all", 200, 20)


def test_a_picture_of_the_grid_is_encoded_once(measured, monkeypatch):
    data = Tiny(size=16, val_size=8, test_size=20)
    data.setup()
    blocks = []
    encode = GridCodes.encode
    monkeypatch.setattr(
        GridCodes,
        "encode",
        lambda self, block: (blocks.append(block), encode(self, block)),
    )
    made = family(shape=(1, 16, 16))
    measured(made, data, Representations(metrics=["disentanglement"], train=50, evaluate=20, batch=16))
    assert sorted(blocks) == list(range(-(-108 // 16)))


def test_measuring_moves_nothing(grey, make_trainer):
    made = family()
    made.train()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    trainer = SimpleNamespace(
        fast_dev_run=False,
        datamodule=grey,
        global_rank=0,
        world_size=1,
        is_global_zero=True,
        global_step=3,
        current_epoch=0,
        loggers=[],
    )
    trainer.callbacks = []
    trainer.callback_metrics, trainer.lightning_module, trainer.progress_bar_callback = {}, made, None
    trainer.strategy = SimpleNamespace(broadcast=lambda x: x, reduce=lambda x, reduce_op: x)
    trainer.precision_plugin = SimpleNamespace(forward_context=torch.no_grad)
    for callback in measures():
        callback.setup(trainer, made, "test")
        callback.run(trainer, made, final=False)
    assert torch.equal(torch.get_rng_state(), state) and made.model.training
    assert "kde/log_likelihood/held-out" not in trainer.callback_metrics
    assert {"kde/log_likelihood/ema", "iwae/bits_per_dim/ema", "v_measure/posterior/ema"} <= set(
        trainer.callback_metrics
    )


@pytest.mark.slow
def test_two_processes_measure_what_one_does(alone, tmp_path):
    two("-m", "tests.callbacks.likelihood.latent_parts", str(tmp_path))
    both = json.loads((tmp_path / "metrics.json").read_text())
    assert set(both) == set(alone)
    for name, row in alone.items():
        assert both[name]["value"] == pytest.approx(row["value"], rel=1e-10), name
        assert both[name]["protocol"] == row["protocol"]


def ready(callback, made, data, stage="test"):
    callback.setup(SimpleNamespace(datamodule=data), made, stage)


def test_what_cannot_be_measured_is_refused(grey, binary):
    ddpm = DDPM(MLP((1, 8, 8), 16, 1), SGD, steps=10, shape=(1, 8, 8), value_range=(-1.0, 1.0))
    rbm = RBM(SGD, (1, 8, 8), 4, value_range=(0.0, 1.0))
    no_sampler = family()
    no_sampler.sampler = None
    plain = family(value_range=None)
    unlabelled = copy.copy(grey)
    unlabelled.name, unlabelled.classes = "mine", None
    cases = [
        (ImportanceLikelihood(), ddpm, grey, "latent variables.*Denoiser.*callbacks.likelihood=null"),
        (ImportanceLikelihood(), plain, grey, "data.value_range, got null"),
        (KernelDensityLikelihood(), no_sampler, grey, "module.sampler is null"),
        (KernelDensityLikelihood(), plain, grey, "data.value_range, got null"),
        (Representations(Bottleneck()), rbm, binary, "Bottleneck needs.*RBM"),
        (
            Representations(metrics=["disentanglement"]),
            rbm,
            binary,
            "digits knows no factors: data=shapes: leave it out",
        ),
        (Representations(metrics=["probe"]), family(), unlabelled, "mine has no labels: leave it out"),
        (Representations(), family(value_range=None), unlabelled, "can measure nothing"),
    ]
    for callback, made, data, sentence in cases:
        with pytest.raises((ValueError, TypeError), match=sentence):
            ready(callback, made, data)
    ready(Representations(), rbm, binary)
    ready(Representations(), ddpm, grey)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ImportanceLikelihood(samples=0), "samples is .?0"),
        (lambda: ImportanceLikelihood(n=1), "n is .?1"),
        (lambda: KernelDensityLikelihood(n=3), "n is .?3"),
        (lambda: KernelDensityLikelihood(split="train"), "split is .?train"),
        (lambda: Representations(metrics=["colour"]), "metrics.*clustering, probe"),
        (lambda: Representations(metrics="probe"), "metrics.*clustering, probe"),
        (lambda: Representations(n_train=1), "n_train is .?1"),
        (lambda: Representations(split="train"), "split is .?train"),
    ],
)
def test_wrong_options_are_refused(call, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        call()


@pytest.mark.parametrize("kind", [ImportanceLikelihood, KernelDensityLikelihood, Representations])
def test_a_model_that_has_diverged_gives_no_number(kind, grey, make_trainer):
    made = family(ema_decay=None)
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(NonFinite, match="not finite"):
        make_trainer(kind(n=40), inference_mode=False).test(made, datamodule=grey, verbose=False)


def test_the_network_of_a_vae_is_compiled_in_both_halves():
    net, graphs = MLPAutoencoder((4,), 2, 8, 1), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    x = torch.randn(3, 4)
    plain = net.encode(x), net.decode(x[:, :2])
    for part in called([net]):
        part.compile(backend=backend)
    assert torch.equal(net.encode(x), plain[0]) and len(graphs) == 1
    assert torch.equal(net.decode(x[:, :2]), plain[1]) and len(graphs) == 2

"""Likelihoods as callbacks: the numbers of exactly these samples, whoever scores them, each with its error and kind."""

import json
import math
from types import SimpleNamespace

import pytest
import torch

from lightning_gen.callbacks import FlowLikelihood, Likelihood, measuring
from lightning_gen.data import Rings
from lightning_gen.errors import NonFinite
from lightning_gen.families.base import GenerativeModule
from lightning_gen.likelihood import ODELikelihood, bits_per_dim, dequantised, variational_bound
from lightning_gen.losses import DenoisingScoreMatching, uniform
from lightning_gen.models import Denoiser, ScoreNetwork
from lightning_gen.nets import MLP
from lightning_gen.process import VE, VP, DiscreteVP, linear_betas
from lightning_gen.randomness import generator
from tests.callbacks.trainers import Alone
from tests.data.sets import ready

IMAGE, POINT = (1, 8, 8), (2,)
FLOW = ODELikelihood("heun", steps=4)


class Watched(MLP):
    """An MLP that is no longer zero, and that notes how it is called."""

    def __init__(self, shape, classes=None):
        super().__init__(shape, width=16, depth=1, classes=classes)
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        self.seen = []

    def forward(self, x, t, label=None):
        self.seen.append((self.training, torch.is_autocast_enabled("cpu"), len(x)))
        return super().forward(x, t, label)


def module(shape=IMAGE, process=None, ema=True, classes=None):
    torch.manual_seed(0)
    net = Watched(shape, None if classes is None else classes + 1)
    made = GenerativeModule(
        Denoiser(net, VP() if process is None else process),
        DenoisingScoreMatching(uniform(1e-3)),
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        ema_decay=0.9 if ema else None,
        shape=shape,
        value_range=(-1.0, 1.0) if len(shape) == 3 else None,
        classes=classes,
    )
    with torch.no_grad():  # the raw weights have gone on
        list(made.model.parameters())[-1].add_(0.5)
    return made


@pytest.fixture(scope="module")
def rings():
    return ready(Rings(n=100, val_size=10, test_size=60))


@pytest.fixture
def measured(monkeypatch):
    """Measure with a trainer of one's own; what would be published comes back."""

    def measure(callback, made, trainer, final=True):
        kept = {}
        monkeypatch.setattr(
            measuring,
            "publish",
            lambda _, results, final: kept.update({str(each.name): each for each in results}, final=final),
        )
        callback.run(trainer, made, final)
        assert kept.pop("final") == final
        return kept

    return measure


def nats(made, data, n, batch, draws, seed=0, flow=FLOW, weights="ema", given=None):
    """log p of the first n test samples, (draws, n), by hand."""
    found, split = [], data.split("test")
    for start in range(0, n, batch):
        x = data.encode(split.take(torch.arange(start, min(start + batch, n))))
        noise, model = generator(seed, "flow", start), made.weights(weights).eval()
        model = model if given is None else model.with_label(given[start : start + len(x)])
        rows = []
        for _ in range(draws):
            place = x if made.value_range is None else dequantised(x, (-1.0, 1.0), noise)
            rows.append(flow(model, place, noise)[0])
        found.append(torch.stack(rows))
    return torch.cat(found, 1)


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_the_bits_of_exactly_n_images(weights, digits, make_trainer, tmp_path):
    made = module()
    flow = FlowLikelihood(n=50, batch=32, draws=2, seed=3, weights=weights, flow=FLOW)
    make_trainer(flow).test(made, datamodule=digits, verbose=False)
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert set(found) == {f"ode/bits_per_dim/{weights}", f"ode/nll/{weights}"}
    direct = nats(made, digits, 50, 32, 2, seed=3, weights=weights)
    bits, nll = found[f"ode/bits_per_dim/{weights}"], found[f"ode/nll/{weights}"]
    each = bits_per_dim(direct.mean(0), 64, (-1.0, 1.0))
    assert bits["value"] == pytest.approx(float(each.mean()), rel=1e-9)
    assert bits["error"] == pytest.approx(float(each.std()) / 50**0.5, rel=1e-9)
    assert nll["value"] == pytest.approx(-float(direct.mean()) - 64 * math.log(2 / 255), rel=1e-9)
    assert nll["value"] == pytest.approx(bits["value"] * 64 * math.log(2), rel=1e-9)
    assert (bits["unit"], nll["unit"]) == ("bits/dim", "nats")
    assert bits["kind"] == nll["kind"] == "estimate" and bits["protocol"]["of"] == "upper bound (Jensen)"
    share = float(direct.var(0).mean() / 2 / direct.mean(0).var())
    expected = {
        "split": "test",
        "data": digits.split("test").fingerprint(),
        "n": 50,
        "weights": weights,
        "seed": 3,
        "block": 32,
        "conditional": False,
        "solver": "heun",
        "steps": 4,
        "t_start": 1e-5,
        "trace": "hutchinson",
        "probes": 1,
        "probe": "rademacher",
        "prior": "N(0, 1^2 I)",
        "draws": 2,
        "dequantisation": "uniform",
        "levels": 256,
        "bin_width": "2/255",
        "evaluations": 8,
        "variance_share_of_draws": pytest.approx(share, rel=1e-9),
    }
    assert {key: bits["protocol"].get(key) for key in expected} == expected


def test_points_have_exact_nats_and_nothing_is_drawn(rings, measured):
    made = module(POINT, VE())
    found = [measured(FlowLikelihood(seed=seed, flow=FLOW), made, Alone(rings)) for seed in (0, 1)]
    (name, result), (_, other) = (*found[0].items(), *found[1].items())
    direct = -nats(made, rings, 60, 256, 1)[0]
    assert name == "ode/nll/ema" and result.unit == "nats" and result.kind == "estimate"
    assert result.value == other.value == pytest.approx(float(direct.mean()), rel=1e-9)
    assert result.error == pytest.approx(float(direct.std()) / 60**0.5, rel=1e-9)
    protocol = {key: result.protocol.get(key) for key in ("n", "trace", "probes", "dequantisation", "prior", "levels")}
    assert protocol == {
        "n": 60,
        "trace": "exact",
        "probes": None,
        "dequantisation": "none",
        "prior": "N(0, 50^2 I)",
        "levels": None,
    }


class Uniform(ODELikelihood):
    """The density that is uniform on the union of the bins of [-1, 1]."""

    def __call__(self, model, x, generator=None, terminal=None, progress=None):
        outside = (x.flatten(1).abs() > 256 / 255 + 1e-6).any(1).double()
        return -64 * math.log(512 / 255) - 1e6 * outside, 1


def test_a_uniform_model_costs_eight_bits(digits, measured):
    result = measured(FlowLikelihood(n=10, draws=3, flow=Uniform()), module(), Alone(digits))["ode/bits_per_dim/ema"]
    assert result.value == pytest.approx(8, abs=1e-9) and result.error == pytest.approx(0, abs=1e-9)


def test_bins_within_the_range_are_scored_and_said(digits, measured):
    made, flow = module(), ODELikelihood("heun", steps=4)
    found = measured(FlowLikelihood(n=10, batch=10, seed=3, flow=flow, bins="within"), made, Alone(digits))
    x = digits.encode(digits.split("test").take(torch.arange(10)))
    noise = generator(3, "flow", 0)
    x = dequantised(x, (-1.0, 1.0), noise, bins="within")
    bits = bits_per_dim(flow(made.averaged.eval(), x, noise)[0], 64, (-1.0, 1.0), bins="within")
    result = found["ode/bits_per_dim/ema"]
    assert result.value == pytest.approx(float(bits.mean()), rel=1e-9)
    assert result.protocol["bin_width"] == "2/256" and result.protocol["levels"] == 256


def test_the_bounds_parts_are_its_terms(digits, measured):
    made = module(process=DiscreteVP(linear_betas(6, 0.05, 0.4)), ema=False)
    found = measured(Likelihood(n=40, batch=32, seed=2, variance="small"), made, Alone(digits))
    terms = []
    for start, end in ((0, 32), (32, 40)):
        x = digits.encode(digits.split("test").images(torch.arange(start, end)))
        with torch.autocast("cpu", torch.bfloat16):
            terms.append(variational_bound(made.model.eval(), x, generator(2, "bound", start), variance="small"))
    terms = torch.cat(terms).double()
    parts = {"decoder": terms[:, 0], "diffusion": terms[:, 1:-1].sum(1), "prior": terms[:, -1]}
    parts["bits_per_dim"] = terms.sum(1)
    assert set(found) == {f"vlb/{name}/raw" for name in parts}
    for name, values in parts.items():
        result = found[f"vlb/{name}/raw"]
        assert result.value == pytest.approx(float(values.mean()), rel=1e-6), name
        assert result.error == pytest.approx(float(values.std()) / 40**0.5, rel=1e-6), name
        assert result.kind == "upper bound" and result.unit == "bits/dim"
        assert result.protocol["terms"] == 7 and result.protocol["variance"] == "small"
        assert result.protocol["convention"] == "paper" and result.protocol["clip"] == "none"
        assert result.protocol["bin_width"] == "2/255"


def test_a_bound_says_that_it_is_ho_et_als(digits, measured):
    made = module(process=DiscreteVP(linear_betas(6, 0.05, 0.4)), ema=False)
    result = measured(Likelihood(n=8, seed=2, convention="code"), made, Alone(digits))["vlb/bits_per_dim/raw"]
    x = digits.encode(digits.split("test").images(torch.arange(8)))
    with torch.autocast("cpu", torch.bfloat16):
        terms = variational_bound(made.model.eval(), x, generator(2, "bound", 0), convention="code")
    assert result.value == pytest.approx(float(terms.sum(1).mean()), rel=1e-6)
    said = {key: result.protocol[key] for key in ("variance", "convention", "clip")}
    assert said == {"variance": "large", "convention": "code", "clip": [-1.0, 1.0]}
    # beta_2 beta_1 / (1 - (1 - beta_1)(1 - beta_2)) of betas .05, .12
    assert result.protocol["decoder_deviation"] ** 2 == pytest.approx(0.12 * 0.05 / 0.164, rel=1e-9)


def test_a_process_of_one_step_is_refused_before_any_work(digits, make_trainer):
    callback, made = Likelihood(n=8, convention="code"), module(process=DiscreteVP([0.5]))
    with pytest.raises(ValueError, match="convention code.*1 step.*paper"):
        make_trainer(callback).test(made, datamodule=digits, verbose=False)


def both():
    return [
        (FlowLikelihood(n=70, batch=16, draws=2, flow=FLOW), VP()),
        (Likelihood(n=70, batch=16), DiscreteVP(linear_betas(4, 0.05, 0.4))),
    ]


@pytest.mark.parametrize(("callback", "process"), both())
def test_two_ranks_score_what_one_scores(callback, process, digits, measured):
    made, one = module(process=process), Alone(digits)
    measured(callback, made, one)
    two = [Alone(digits, rank=rank, world=2) for rank in (0, 1)]
    for trainer in two:
        measured(callback, made, trainer)
    mine, yours = (trainer.rows for trainer in two)
    assert torch.equal(mine + yours, one.rows)
    assert (mine.abs().sum(1) > 0).sum() == 38 and (yours.abs().sum(1) > 0).sum() == 32  # blocks 0, 2, 4 and 1, 3
    assert (mine * yours == 0).all()


@pytest.mark.parametrize(("callback", "process"), both())
def test_measuring_leaves_no_trace(callback, process, digits, measured):
    made = module(process=process)
    made.train()
    state, seen = torch.get_rng_state(), made.averaged.net.seen
    measured(callback, made, Alone(digits))
    assert torch.equal(torch.get_rng_state(), state)
    assert made.model.training and made.averaged.training
    modes, autocast, sizes = zip(*seen, strict=True)
    assert not any(modes) and set(sizes) == {16, 6}
    # Likelihood gradients stay outside autocast; the bound has none.
    assert set(autocast) == {callback.autocast} and callback.autocast == isinstance(callback, Likelihood)
    assert all(parameter.grad is None for parameter in made.parameters())


@pytest.mark.parametrize(("callback", "process"), both())
def test_a_model_that_is_not_finite_gives_no_number(callback, process, digits, make_trainer, tmp_path):
    made = module(process=process)
    with torch.no_grad():
        list(made.averaged.parameters())[-1].fill_(torch.nan)
    with pytest.raises(NonFinite, match="not finite.*step 0"):
        make_trainer(callback).test(made, datamodule=digits, verbose=False)
    assert not (tmp_path / "metrics.json").exists()


def test_labels_of_the_data_are_bound(digits, measured):
    made = module(classes=10)
    callback = FlowLikelihood(n=40, batch=32, flow=FLOW)
    found = measured(callback, made, Alone(digits))["ode/nll/ema"]
    label = digits.split("test").labels(torch.arange(40))
    direct = nats(made, digits, 40, 32, 1, given=label)
    assert found.value == pytest.approx(-float(direct.mean()) - 64 * math.log(2 / 255), rel=1e-9)
    assert found.protocol["conditional"] is True
    other = nats(made, digits, 40, 32, 1, given=(label + 1) % 10)
    assert float((other.mean() - direct.mean()).abs()) > 0.1


def test_the_error_is_the_spread_of_the_value_over_repetitions(n=50, draws=3, repeats=2000):
    """Samples scatter by 30 nats, draws and probes by 60: of the variance of a mean of 3 draws 4/7 is the draws'."""
    callback, made = FlowLikelihood(n=n, draws=draws, flow=FLOW), module()
    noise = torch.Generator().manual_seed(0)
    means = 30 * torch.randn(repeats, 1, n, generator=noise, dtype=torch.float64)
    nats = means + 60 * torch.randn(repeats, draws, n, generator=noise, dtype=torch.float64)
    found = []
    for each in nats:
        rows = torch.stack([each.mean(0), each.var(0), torch.ones(n)], dim=1)
        (result,) = [each for each in callback.results(made, rows, n, "") if str(each.name) == "ode/nll/ema"]
        found.append(result)
    values, errors = (torch.tensor([getattr(result, key) for result in found]) for key in ("value", "error"))
    assert float(errors.square().mean().sqrt()) == pytest.approx(float(values.std()), rel=0.08)
    shares = torch.tensor([result.protocol["variance_share_of_draws"] for result in found])
    assert float(shares.median()) == pytest.approx(4 / 7, rel=0.1)


@pytest.mark.parametrize("kind", [FlowLikelihood, Likelihood])
def test_it_is_measured_after_every_so_many_epochs_and_at_the_end(kind, monkeypatch):
    asked, trainer = [], Alone(None)
    monkeypatch.setattr(kind, "run", lambda self, trainer, module, final: asked.append((trainer.current_epoch, final)))
    for every in (0, 3):
        for trainer.current_epoch in range(6):
            kind(every_n_epochs=every).on_validation_epoch_end(trainer, None)
    trainer.sanity_checking = True
    kind(every_n_epochs=1).on_validation_epoch_end(trainer, None)
    kind().on_test_epoch_end(trainer, None)
    assert asked == [(2, False), (5, False), (5, True)]


def test_what_has_no_such_number_is_refused_before_any_work(digits):
    trainer = Alone(digits)
    flow, plain = FlowLikelihood(), ScoreNetwork(MLP(POINT, width=8, depth=1))
    for made, found in (
        (SimpleNamespace(model=plain, shape=POINT, value_range=None), "Clean with sigma from 0 to 0"),
        (module(POINT, VE(0.3, 0.3)), "VE with sigma from 0.3 to 0.3"),
    ):
        with pytest.raises(ValueError, match=f"{found}.*callbacks.likelihood=null"):
            flow.setup(trainer, made, "test")
    early = FlowLikelihood(flow=ODELikelihood(t_start=0.1))
    with pytest.raises(ValueError, match="0.25.*callbacks.likelihood=null"):
        early.setup(trainer, module(process=DiscreteVP(linear_betas(4))), "test")
    unknown = module()
    unknown.value_range = None
    with pytest.raises(ValueError, match="data.value_range.*null"):
        flow.setup(trainer, unknown, "test")
    for made in (module(), module(POINT), module(process=DiscreteVP(linear_betas(4)))):
        flow.setup(trainer, made, "test")
    with pytest.raises(ValueError, match="VP.*FlowLikelihood"):
        Likelihood().setup(trainer, module(), "test")
    with pytest.raises(ValueError, match="8-bit images"):
        Likelihood().setup(trainer, module(POINT, DiscreteVP(linear_betas(4))), "test")


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        *((kind, {"n": 1}, "n is .?1") for kind in (FlowLikelihood, Likelihood)),
        *((kind, {"split": "all"}, "split is .?all") for kind in (FlowLikelihood, Likelihood)),
        (FlowLikelihood, {"weights": "best"}, "weights is .?best"),
        (FlowLikelihood, {"batch": 0}, "batch is .?0"),
        (FlowLikelihood, {"draws": 0}, "draws is .?0"),
        (Likelihood, {"variance": "tiny"}, "variance is .?tiny"),
    ],
)
def test_wrong_options_are_refused(kind, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        kind(**options)

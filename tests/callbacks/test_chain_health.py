"""ChainHealth: known gaps, drifts and mixing, no trace in training, a divergence that is named, the right pixels."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from PIL import Image
from pytorch_lightning import Callback

from lightning_gen import families, losses
from lightning_gen.callbacks import chain_health as health
from lightning_gen.callbacks.chain_health import ChainHealth, mixing, of_batch, run_on
from lightning_gen.callbacks.loggers.record import RecordLogger
from lightning_gen.data import Digits, Rings
from lightning_gen.errors import NonFinite
from lightning_gen.families import EBM, GenerativeModule
from lightning_gen.losses import ContrastiveDivergence
from lightning_gen.nets import MLP
from lightning_gen.results.pictures.energies import histogram
from lightning_gen.results.store import read_record
from lightning_gen.runs.metrics_file import read_metrics
from lightning_gen.samplers import MALA, Gibbs, Langevin, Stepwise, Transition
from tests.energies import Quadratic

SGD = lambda parameters: torch.optim.SGD(parameters, lr=0.01)  # noqa: E731


class _Moves(Stepwise):
    """A chain that begins at zeros and moves by `move(x, transition, generator)`, along the plan 1, 2."""

    def __init__(self, move):
        self.move, self.calls = move, []

    def plan(self, model, shape):
        """Two transitions."""
        return [Transition(0.0, 0.0, (1.0,)), Transition(0.0, 0.0, (2.0,))]

    def start(self, model, shape, generator=None):
        """Zeros."""
        return torch.zeros(shape)

    def step(self, model, x, transition, carry, generator):
        """The carry counts."""
        self.calls.append((transition.coefficients[0], carry))
        return self.move(x, transition, generator), [len(self.calls)]

    def describe(self):
        """A name."""
        return {"name": "Moves"}


def exact(x, transition, generator):
    """Draws of the energy's own law."""
    return torch.randn(x.shape, generator=generator)


def bowl(move, shape=(2,), **options):
    model, loss = Quadratic(learned=True), ContrastiveDivergence(_Moves(move))
    module = GenerativeModule(model=model, loss=loss, optimizer=SGD, shape=shape, **options)
    module.trained_steps = 12
    return module


def rings():
    return Rings(n=64, val_size=8, test_size=100, batch_size=16)


@pytest.fixture
def tested(tmp_path, make_trainer):
    """The metrics of the test stage, in Lightning's inference mode."""

    def start(module, data=None, **options):
        callback = ChainHealth(**{"chains": 200, "length": 10, "long": 4, **options})
        make_trainer(callback).test(module, datamodule=data or rings(), verbose=False)
        return read_metrics(tmp_path / "metrics.json")

    return start


def test_independent_draws_have_mixed_and_chains_stuck_apart_have_not():
    draw = torch.randn(400, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = mixing(draw)
    assert abs(found["health/r_hat"].value - 1) < 0.005
    assert found["health/ess"].value == pytest.approx(draw.numel(), rel=0.15)
    stuck = mixing(draw + 10.0 * torch.arange(20))
    assert stuck["health/r_hat"].value > 3 and stuck["health/ess"].value < 60
    trend = mixing(draw + 0.05 * torch.arange(400)[:, None])  # all alike, and none at rest: halves are compared
    assert trend["health/r_hat"].value > 1.5
    assert mixing(draw[:1].expand(9, 20))["health/r_hat"].value > 100  # none moves
    assert mixing(torch.ones(9, 20, dtype=torch.float64)) == {}


def test_the_sample_size_of_an_autoregression_is_the_one_that_is_known():
    """x' = rho x + noise: N (1 - rho) / (1 + rho) independent draws."""
    noise = torch.randn(2000, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = [noise[0]]
    for z in noise[1:]:
        rows.append(0.8 * rows[-1] + 0.6 * z)
    found = mixing(torch.stack(rows))["health/ess"]
    assert found.value == pytest.approx(noise.numel() / 9, rel=0.15)
    assert found.protocol["draws"] == noise.numel()


def test_chains_at_their_law_do_not_drift(tested):
    """E has mean 1 and deviation 1 in the plane."""
    found = tested(bowl(exact), seed=3)
    for name in ("energy/short", "energy/long"):
        assert found[name]["error"] == pytest.approx(200**-0.5, rel=0.25)
        assert abs(found[name]["value"] - 1) < 4 * found[name]["error"]
        assert (found[name]["kind"], found[name]["unit"], found[name]["step"]) == ("estimate", "nats", 12)
    assert abs(found["health/drift"]["value"]) < 4 * found["health/drift"]["error"]
    assert abs(found["health/r_hat"]["value"] - 1) < 0.01
    told = {"chains": 200, "length": 10, "long": 4, "weights": "raw", "seed": 3, "sampler": {"name": "Moves"}}
    assert found["health/drift"]["protocol"] == told
    assert found["health/ess"]["protocol"]["draws"] == 200 * (40 - 10)  # what a short run passes through is left out
    assert not {"energy/data", "energy/gap", "health/acceptance", "health/step_size"} & set(found)


def test_a_drift_is_the_energy_of_long_runs_less_that_of_short_ones(tested):
    """Coordinates grow by the transition's 1 or 2, in turn: 15 after 10, 60 after 40; E = x^2 in the plane."""
    module = bowl(lambda x, transition, generator: x + transition.coefficients[0])
    found = tested(module)
    assert (found["energy/short"]["value"], found["energy/long"]["value"]) == (15.0**2, 60.0**2)
    assert (found["health/drift"]["value"], found["health/drift"]["error"]) == (60.0**2 - 15.0**2, 0)
    calls = module.loss.sampler.calls
    assert [kind for kind, _ in calls] == [1.0, 2.0] * 20
    assert [carry for _, carry in calls] == [None, *([i] for i in range(1, 40))]


def test_each_energy_is_that_of_where_the_chain_then_stands():
    """By whatever the sampler carries: energies, the hidden units' field, or nothing."""
    model = families.GaussianBernoulliRBM(SGD, (2,), 3, std=1.0).model
    for sampler in (Gibbs(2), MALA(2, 0.3), Langevin(2, 0.1)):
        places, ticks, step = [], [], sampler.step
        sampler.step = lambda *a, step=step, places=places: (out := step(*a), places.append(out[0]))[0]
        start = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
        energies, short, long, share = run_on(
            model, sampler, start, 4, 3, torch.Generator().manual_seed(1), lambda ticks=ticks: ticks.append(1)
        )
        assert energies.shape == (12, 6) and len(places) == len(ticks) == 12
        with torch.no_grad():
            torch.testing.assert_close(energies, torch.stack([model.energy(x) for x in places]).double())
        assert short is places[3] and long is places[-1]
        moved = torch.stack([(b != a).any(1) for a, b in pairwise([start, *places])]).float().mean(0)
        assert (share is None) == (not isinstance(sampler, MALA))
        assert share is None or torch.allclose(share, moved)


def test_the_asked_weights_are_run_at_rest_and_the_sampler_tells_its_step(tested):
    module = EBM(MLP((2,), 8, 1), ContrastiveDivergence(Langevin(2, 0.02)), SGD, "norm", 1.0, shape=(2,), ema_decay=0.9)
    module.ema = Quadratic(constant=5.0)
    module.ema.train()
    found = tested(module, chains=400, length=100, long=2)
    assert found["health/step_size"]["value"] == 0.02 and found["health/step_size"]["kind"] == "exact"
    # unadjusted Langevin: the variance is 1 / (1 - eta / 2)
    assert abs(found["energy/long"]["value"] - 5 - 1 / 0.99) < 4 * found["energy/long"]["error"]
    assert module.ema.training and found["energy/long"]["protocol"]["weights"] == "ema"
    raw = tested(module, weights="raw")
    assert raw["energy/long"]["protocol"]["weights"] == "raw" and raw["energy/long"]["value"] < 5


def rbm_modules():
    digits = {"batch_size": 100, "value_range": (0.0, 1.0), "binarise": "stochastic"}
    yield Digits(**digits), families.RBM(SGD, (1, 8, 8), 8, start="persistent", centred=True)
    chain = MALA(3, 0.05, start="uniform", spread=2.0)
    loss = ContrastiveDivergence(chain, "persistent", chains=32, restart=0.1, jitter=0.01)
    yield rings(), EBM(MLP((2,), 8, 1), loss, SGD, "norm", 2.0, shape=(2,), ema_decay=0.9)


class Watch(Callback):
    """What the loss showed after each step, and where the global generator then stood."""

    def __init__(self):
        super().__init__()
        self.seen, self.states = [], []

    def on_train_batch_end(self, trainer, pl_module, *_):
        """The batch ends."""
        self.seen.append(dict(pl_module.loss.last_batch))
        self.states.append(torch.get_rng_state())


@pytest.mark.parametrize("which", [0, 1], ids=["rbm", "mala"])
def test_training_is_the_same_with_and_without_it(which, make_trainer, tmp_path):
    """Weights, averages, kept chains and global generators, bit by bit; and the gap is that of the means."""
    data, module = list(rbm_modules())[which]
    twin, runs = copy.deepcopy(module), []
    for each, callbacks in ((twin, []), (module, [ChainHealth(every_n_steps=2, chains=4, length=4, long=2)])):
        watch = Watch()
        trainer = make_trainer(*callbacks, watch, loggers=[RecordLogger(tmp_path)], max_epochs=-1, max_steps=5)
        trainer.fit(each, datamodule=data)
        runs.append((each.state_dict(), each.loss.chains, watch.states, each.training, each.model.training))
    torch.testing.assert_close(runs[1], runs[0], rtol=0, atol=0)
    lines = read_record(tmp_path / "record.jsonl")
    found = {(line["name"], line["step"]): line["value"] for line in lines}
    assert sorted(step for name, step in found if name == "energy/gap") == [2, 4]
    for step in (2, 4):
        up, down = (watch.seen[step - 1][name].double() for name in ("data", "chains"))
        assert found["energy/data", step] == pytest.approx(float(up.mean()))
        assert found["energy/chains", step] == pytest.approx(float(down.mean()))
        assert found["energy/gap", step] == pytest.approx(float(down.mean() - up.mean()), abs=1e-9)
        error = (up.var() / len(up) + down.var() / len(down)) ** 0.5
        assert found["energy/gap/error", step] == pytest.approx(float(error))
        assert ("health/acceptance", step) in found or not which
        if which:
            share = watch.seen[step - 1]["acceptance"].mean()
            assert found["health/acceptance", step] == pytest.approx(float(share))
        assert {("health/drift", step), ("energy/short", step), ("energy/long", step)} <= set(found)
        for name in ("energies", "long"):
            assert (tmp_path / "samples" / f"{name}-{step:08d}.png").is_file()
    assert not (tmp_path / "metrics.json").exists()


def test_it_looks_once_a_step_where_gradients_are_accumulated(make_trainer, monkeypatch):
    looks = []
    monkeypatch.setattr(ChainHealth, "measure", lambda self, trainer, *_, **__: looks.append(trainer.global_step))
    for every, expected in ((1, [1, 2, 3, 4]), (3, [3]), (0, [])):
        looks.clear()
        trainer = make_trainer(ChainHealth(every_n_steps=every), max_epochs=2, accumulate_grad_batches=2)
        trainer.fit(bowl(exact), datamodule=Rings(n=72, val_size=8, test_size=8, batch_size=16))
        assert looks == expected


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_divergence_stops_and_is_named(bad, tested, tmp_path):
    with pytest.raises(NonFinite, match="7 of 200.*not finite.*step 12.*rank 0"):
        tested(bowl(lambda x, *_: torch.where(torch.arange(len(x))[:, None] < 7, bad, x)))
    assert not (tmp_path / "metrics.json").exists() and not (tmp_path / "samples").exists()
    fine = {"data": torch.zeros(3), "chains": torch.zeros(3), "reached": torch.zeros(3, 2)}
    names = {"data": "energies of data", "chains": "energies of training chains", "reached": "training chains"}
    for key, name in names.items():
        spoilt = fine[key].clone()
        spoilt[1] = bad
        with pytest.raises(NonFinite, match=f"1 of 3 {name}.*not finite.*step 40.*rank 0"):
            of_batch({**fine, key: spoilt}, 40)


def test_images_of_short_runs_stand_left_of_those_of_long_ones(tested, tmp_path, monkeypatch):
    """Every transition inverts: black at the start, white after 5 transitions, black after 10; in the model's range."""
    module = bowl(lambda x, *_: -1.0 - x, shape=(1, 8, 8), value_range=(-1.0, 0.0))
    monkeypatch.setattr(_Moves, "start", lambda self, model, shape, generator: torch.full(shape, -1.0))
    tested(module, Digits(value_range=(-1.0, 0.0)), chains=4, length=5, long=2)
    picture = np.asarray(Image.open(tmp_path / "samples" / "long-00000012.png"))
    half, middle = picture.shape[1] // 2, picture.shape[0] // 4
    for side, colour in ((picture[:, :half], 255), (picture[:, -half:], 0)):
        assert (side == colour).mean() > 0.8 and side[middle, half // 4] == colour
    assert set(np.unique(picture)) == {0, 200, 255}


def test_histograms_are_of_the_named_energies_and_points_are_scattered(tested, tmp_path, monkeypatch):
    drawn, clouds, hist = {}, [], Axes.hist
    monkeypatch.setattr(
        Axes, "hist", lambda self, x, *a, **b: (drawn.update({b["label"]: x}), hist(self, x, *a, **b))[1]
    )
    scatter = health.scatter
    monkeypatch.setattr(health, "scatter", lambda panels, **b: (clouds.extend(panels), scatter(panels, **b))[1])
    data = rings()
    tested(bowl(lambda x, transition, _: x + transition.coefficients[0]), data, length=10, long=2)
    assert list(drawn) == ["data", "after 10 transitions", "after 20 transitions"]
    points = data.split("test").points(slice(None)).double()
    np.testing.assert_allclose(drawn["data"], 0.5 * points.square().sum(1).numpy(), rtol=1e-5)
    assert (drawn["after 10 transitions"] == 15.0**2).all() and (drawn["after 20 transitions"] == 30.0**2).all()
    assert [name for name, _ in clouds] == list(drawn)[1:]
    assert (clouds[0][1] == 15).all() and (clouds[1][1] == 30).all()
    assert Image.open(tmp_path / "samples" / "energies-00000012.png").size == (800, 450)
    assert (tmp_path / "samples" / "long-00000012.png").is_file()


def test_energies_that_floats_cannot_part_have_a_histogram():
    tiny = torch.full((5,), 1e9, dtype=torch.float64)
    assert histogram({"all": tiny, "alike": tiny + 1e-6}).shape == (450, 800, 3)


def test_what_has_no_chains_is_refused_before_any_work(make_trainer):
    module = GenerativeModule(Quadratic(learned=True), losses.ExactScoreMatching(), SGD, shape=(2,))
    with pytest.raises(ValueError, match="loss.*ExactScoreMatching.*callbacks.health=null"):
        make_trainer(ChainHealth()).fit(module, datamodule=rings())


@pytest.mark.parametrize(
    "options", [{"every_n_steps": -1}, {"chains": 1}, {"length": 3}, {"long": 1}, {"weights": "both"}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is"):
        ChainHealth(**options)

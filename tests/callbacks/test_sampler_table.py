"""The table of samplers: each at the most steps that fit, exactly its samples measured, nobody left out unsaid."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from matplotlib.axes import Axes

from lightning_gen.callbacks import RecordLogger, measuring
from lightning_gen.callbacks.sampler_table import SamplerTable, most
from lightning_gen.data import Digits
from lightning_gen.errors import NonFinite
from lightning_gen.metrics import frechet_distance, frechet_error, kernel_distance, moments
from lightning_gen.metrics.reference import Reference
from lightning_gen.models import Guided
from lightning_gen.process import VE, VP, DiscreteVP, linear_betas
from lightning_gen.randomness import generator
from lightning_gen.samplers import (
    DDIM,
    MALA,
    RK45,
    Ancestral,
    AnnealedLangevin,
    DPMSolver,
    EDMHeun,
    EulerMaruyama,
    Langevin,
    PredictorCorrector,
    ProbabilityFlow,
)
from tests.callbacks.quality_parts import Projection, exact, tabulate
from tests.callbacks.trainers import trainer
from tests.gaussian import Gaussian, example

ROOT = Path(__file__).resolve().parents[2]
FIXED = {
    "ancestral": Ancestral(),
    "ddim": DDIM(),
    "euler_maruyama": EulerMaruyama(),
    "predictor_corrector": PredictorCorrector(EulerMaruyama(), corrections=2),
    "heun": ProbabilityFlow(),
    "rk4": ProbabilityFlow(method="rk4"),
    "dpm_solver": DPMSolver(),
    "edm": EDMHeun(),
    "langevin": Langevin(denoise=True),
    "annealed": AnnealedLangevin(levels=3),
}


def read(folder: Path) -> dict:
    return json.loads((folder / "samplers.json").read_text())


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("process", [VE(0.01, 10.0), DiscreteVP(linear_betas(40))], ids=lambda p: type(p).__name__)
def test_a_budget_is_used_as_far_as_whole_steps_go(name, process):
    """evaluations(k) <= N < evaluations(k + 1), or the process has no more steps; the sampler itself is not touched."""
    sampler = FIXED[name]
    if name == "annealed" and process.steps:
        process = VE(0.01, 3.0)
    before, model = str(sampler.describe()), Gaussian(process, *example())
    for budget in (5, 16, 33, 200):
        steps = most(sampler, model, (2,), budget)
        if steps is None:
            assert sampler.with_steps(1).evaluations(model, (1, 2)) > budget
            continue
        assert sampler.with_steps(steps).evaluations(model, (1, 2)) <= budget
        try:
            assert sampler.with_steps(steps + 1).evaluations(model, (1, 2)) > budget
        except ValueError:
            assert process.steps == 40
    assert str(sampler.describe()) == before


def test_every_number_is_that_of_exactly_the_named_samples(tmp_path):
    """Drawn again by hand: the fixed one takes 3 and 12 steps, the adaptive one is counted."""
    module = tabulate(tmp_path / "a", {"ddim": DDIM(clip=[-1.0, 1.0]), "rk45": RK45()}, evaluations=[3, 12],
                      tolerances=[0.2], seed=4)  # fmt: skip
    content, data = read(tmp_path / "a"), Digits()
    data.setup()
    features = Projection()
    features.prepare(None)
    real = features(data.split("train").images(slice(None)))[0]
    expected = [("ddim", DDIM(3, clip=[-1.0, 1.0])), ("ddim", DDIM(12, clip=[-1.0, 1.0])), ("rk45", RK45(0.2, 0.2))]
    assert [row["sampler"] for row in content["rows"]] == [name for name, _ in expected]
    for row, (_, sampler) in zip(content["rows"], expected, strict=True):
        counts = []
        x = torch.cat([x for _, x in module.blocks(150, 4, sampler, "raw", counts=counts)])
        drawn = features(((x + 1) / 2).clamp(0, 1).mul(255).round().to(torch.uint8))[0]
        kid = kernel_distance(drawn, real, generator(4, "subset", "kid"), 5, 40)
        assert row["fid"]["value"] == pytest.approx(frechet_distance(*moments(drawn), *moments(real)), rel=1e-6)
        assert (row["kid"]["value"], row["kid"]["error"]) == pytest.approx((kid.value, kid.error), rel=1e-6)
        assert row["evaluations"]["value"] == pytest.approx(sum(counts) / len(counts))
        assert row["evaluations"]["kind"] == (
            "exact" if sampler.evaluations(module.averaged, (1, 8, 8)) else "estimate"
        )
        assert row["fid"]["kind"] == row["kid"]["kind"] == row["seconds"]["kind"] == "estimate"
        assert row["protocol"]["sampler"] == json.loads(json.dumps(sampler.describe()))
        assert (row["protocol"]["n"], row["protocol"]["seed"], row["protocol"]["step"]) == (150, 4, 70)
        assert row["fid"]["protocol"]["n"] == row["kid"]["protocol"]["n"] == 150
        assert row["seconds"]["value"] > 0 and "cpu" in row["seconds"]["protocol"]["machine"]
    assert content["held_out"]["kid"]["protocol"]["n"] == 150


class Broken(DDIM):
    """Diverges with more than two steps."""

    def step(self, *_):
        x, carry = super().step(*_)
        return x / 0 if self.steps > 2 else x, carry


def test_who_does_not_fit_is_named_with_the_reason_and_the_others_stay(tmp_path):
    samplers = {"mala": MALA(), "annealed": AnnealedLangevin(levels=3), "range": DDIM(clip=[0.0, 1.0])}
    tabulate(tmp_path / "a", samplers | {"broken": Broken(), "ddim": DDIM()}, evaluations=[2, 5])
    content = read(tmp_path / "a")
    assert [row["sampler"] for row in content["rows"]] == ["broken", "ddim", "ddim"]
    assert set(content["left_out"]) == {"mala", "annealed", "range", "broken, 5 evaluations"}
    for name, words in {
        "mala": "needs an energy with a score",
        "annealed": "of a VE with start sigma_min",
        "range": "sampler.clip is [0.0, 1.0], expected the range of the model's data",
        "broken, 5 evaluations": "samples of block 0 are not finite at step 70",
    }.items():
        assert words in content["left_out"][name]
        assert f"{name} is left out: " in (tmp_path / "a" / "samplers.md").read_text()


def test_what_fits_no_budget_is_named(tmp_path):
    samplers = {"ddim": DDIM(), "annealed": AnnealedLangevin(levels=30)}
    tabulate(tmp_path / "a", samplers, exact(VE(0.01, 10.0)), evaluations=[4])
    assert read(tmp_path / "a")["left_out"] == {"annealed": "takes more than 4 evaluations"}


def test_nothing_is_drawn_twice(tmp_path, monkeypatch):
    """The same command draws nothing, more of it what is missing, another seed, n or weights all."""
    drawn = []
    samplers = {"ddim": DDIM(), "rk45": RK45()}

    def again(folder=tmp_path / "a", module=None, **options):
        module = module or exact()
        blocks = module.blocks

        def watched(n, seed, sampler, **options):
            drawn.extend([] if sampler is None else [sampler.describe()])
            return blocks(n, seed, sampler, **options)

        monkeypatch.setattr(module, "blocks", watched)
        tabulate(folder, samplers, module, **{"evaluations": [2], "tolerances": [0.5], "n": 20} | options)
        found = [sampler.get("steps", sampler.get("rtol")) for sampler in drawn]
        drawn.clear()
        return found

    assert again() == [2, 0.5]
    first = read(tmp_path / "a")
    assert again() == [] and read(tmp_path / "a") == first
    assert again(evaluations=[2, 3]) == [3]
    assert [row["evaluations"]["value"] for row in read(tmp_path / "a")["rows"]][:2] == [2, 3]
    assert again(seed=1) == again(n=30) == [2, 0.5]
    later = exact()
    later.trained_steps = 71
    assert again(module=later) == [2, 0.5]


def test_a_guided_reading_counts_twice(tmp_path):
    """Of 10 evaluations a guided model affords 5 steps, and the count says 10."""

    class Labelled(type(exact().model)):
        def given(self, label):
            return self

    module = exact()
    module.model, module.classes, module.guidance = Labelled(VP()), 10, 2.0
    assert Guided(module.model, torch.zeros(2), 2.0, 10).evaluations == 2
    tabulate(tmp_path / "a", {"ddim": DDIM()}, module, evaluations=[10])
    (row,) = read(tmp_path / "a")["rows"]
    assert row["protocol"]["sampler"]["steps"] == 5 and row["evaluations"]["value"] == 10


def test_one_bar_has_its_end_at_all_steps(tmp_path, monkeypatch):

    shown, make = [], measuring.bar

    def bar(*args):
        shown.append(make(*args[:4], True, False))  # drawn, so that it counts
        return shown[-1]

    monkeypatch.setattr(measuring, "bar", bar)
    tabulate(tmp_path / "a", {"ddim": DDIM(), "rk45": RK45()}, evaluations=[2, 5], tolerances=[0.1])
    (only,) = [one for one in shown if one.desc == "samplers"]
    assert only.n == only.total == 3 * (2 + 5 + 20)


def test_the_error_of_fid_is_how_it_scatters():
    """300 sets of 400 samples of a skewed law against a fixed reference."""
    place = torch.Generator().manual_seed(3)
    root = torch.randn(4, 4, generator=place, dtype=torch.float64)
    cov = root @ root.T / 4 + 0.2 * torch.eye(4)
    real = Reference(torch.tensor([0.5, 0.0, -0.3, 0.2]).double(), cov, torch.zeros(0, 4), None)
    values, errors = [], []
    for _ in range(300):
        z = torch.randn(400, 4, generator=place, dtype=torch.float64)
        x = z * torch.tensor([1.0, 0.6, 1.5, 0.8]) + 0.3 * z.roll(1, 1) ** 2
        values.append(frechet_distance(*moments(x), real.mean, real.cov))
        errors.append(frechet_error(x, real.mean, real.cov))
    scatter = float(torch.tensor(values).std())
    assert float(torch.tensor(errors).mean()) == pytest.approx(scatter, rel=4 / math.sqrt(2 * 300))


def test_the_picture_shows_every_point_with_its_error_and_goes_to_the_loggers(tmp_path, monkeypatch):
    class Taker(RecordLogger):
        def log_image(self, name, images, step):
            taken.append((name, images[0].width, step))

    taken, drawn, draw = [], [], Axes.errorbar
    monkeypatch.setattr(Axes, "errorbar", lambda *a, **k: (drawn.append((*a[1:], k["label"])), draw(*a, **k))[1])
    options = {"evaluations": [2, 7], "tolerances": [0.1], "logger": Taker(tmp_path)}
    tabulate(tmp_path / "a", {"ddim": DDIM(), "rk45": RK45()}, **options)
    assert taken == [("samplers", 1320, 70)]
    rows = read(tmp_path / "a")["rows"]
    assert [name for *_, name in drawn[-4:]] == ["ddim", "rk45"] * 2
    for (x, y, errors, name), key in zip(drawn[-4:], ("fid", "fid", "kid", "kid"), strict=True):
        own = [row for row in rows if row["sampler"] == name]
        assert x == pytest.approx([row["evaluations"]["value"] for row in own], rel=0.05)
        assert list(y) == [row[key]["value"] for row in own] and list(errors) == [row[key]["error"] for row in own]


@pytest.mark.parametrize(
    ("samplers", "callbacks", "sentence"),
    [
        ({"ddim": DDIM()}, lambda table: [table], "quality=digits"),
        ({"mala": MALA()}, None, "callbacks.solvers.samplers.*mala.*energy"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_work(tmp_path, samplers, callbacks, sentence):
    with pytest.raises(ValueError, match=sentence):
        if callbacks is None:
            tabulate(tmp_path / "a", samplers)
        else:
            runner = trainer(tmp_path / "a", callbacks(SamplerTable(samplers)))
            runner.test(exact(), datamodule=Digits(), verbose=False)
    assert not (tmp_path / "a" / "metrics.json").exists()


def test_where_nothing_is_finite_there_is_no_table(tmp_path):
    with pytest.raises(NonFinite, match="ddim, 3 evaluations.*block 0"):
        tabulate(tmp_path / "a", {"ddim": Broken()}, evaluations=[3])
    assert not (tmp_path / "a" / "samplers.json").exists()


@pytest.mark.parametrize(
    "options", [{"samplers": {}}, {"evaluations": []}, {"evaluations": [0]}, {"tolerances": [0.0]}, {"n": 2}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="SamplerTable|callbacks.solvers"):
        SamplerTable(**{"samplers": {"ddim": DDIM()}} | options)


@pytest.mark.slow
def test_two_ranks_find_what_one_finds(tmp_path):
    one = tmp_path / "one" / "table"
    tabulate(one, {"ddim": DDIM(), "rk45": RK45(), "mala": MALA()}, evaluations=[4], tolerances=[0.1])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "tests.callbacks.quality_parts", "table", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    alone, both = read(one), read(tmp_path / "table")
    # The sentences name the samplers that fit, those of other tests in this process too.
    assert alone["left_out"].keys() == both["left_out"].keys() and len(alone["rows"]) == len(both["rows"]) == 2
    for mine, theirs in zip(alone["rows"], both["rows"], strict=True):
        assert mine["protocol"] == theirs["protocol"] and theirs["seconds"]["protocol"]["ranks"] == 2
        for key in ("evaluations", "fid", "kid"):
            assert theirs[key]["value"] == pytest.approx(mine[key]["value"], rel=1e-5)

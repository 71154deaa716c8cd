"""What every callback that measures has from its base: when, of which weights, no trace, all ranks or none."""

import inspect
import json
from functools import partial

import pytest
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from lightning_gen import callbacks
from lightning_gen.callbacks.measuring import Measuring, measured_weights
from lightning_gen.errors import NonFinite
from lightning_gen.families import DDPM, GenerativeModule
from lightning_gen.losses import ContrastiveDivergence, ExactScoreMatching
from lightning_gen.metrics import PixelFeatures
from lightning_gen.models import Gaussian
from lightning_gen.nets import MLP
from lightning_gen.results.report import closing_table
from lightning_gen.results.result import Name, Result, name_of
from lightning_gen.runs.metrics_file import read_metrics
from lightning_gen.samplers import DDIM, MALA

OURS = [
    kind
    for name in callbacks.__all__
    if inspect.isclass(kind := getattr(callbacks, name)) and issubclass(kind, Measuring) and kind is not Measuring
]


class Counting(Measuring):
    """Its number is how often it has measured; it is rude to modes and generators."""

    key = "callbacks.counting"

    def __init__(self, **options):
        super().__init__(**options)
        self.calls = []

    def publishes(self, module):
        """One."""
        return {Name("count", None, self.measured(module))}

    def measure(self, trainer, module, final):
        """One more."""
        self.calls.append((trainer.global_step, final, torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        module.eval()
        torch.rand(7)
        return [Result(float(len(self.calls)), "exact", name=Name("count", None, self.measured(module)))]


def test_all_that_measure_have_the_one_base():
    assert {"Quality", "SamplerTable", "ScoreField", "EnergyPictures", "ChainHealth", "Representations", "Pictures",
            "AnnealedImportance", "FlowLikelihood", "Likelihood", "ImportanceLikelihood", "KernelDensityLikelihood",
            "GivenQuality", "Modes", "Straightness", "ExactLikelihood", "LatentLikelihood",
            "DecoderAnnealedImportance"} == {kind.__name__ for kind in OURS}  # fmt: skip
    for kind in OURS:
        assert kind.key and kind.run is Measuring.run and kind.measured.__name__ == "measured"


class Theirs(LightningDataModule):
    """A data module that is not ours, with a `split` of its own."""

    split = "train"

    def train_dataloader(self):
        return DataLoader(torch.randn(16, 2, generator=torch.Generator().manual_seed(0)), batch_size=8)

    val_dataloader = test_dataloader = train_dataloader


def of_the_plane(model=None):
    """A family of points, with an energy or with the noise of a DDPM."""
    adam = partial(torch.optim.Adam, lr=1e-3)
    if model is None:
        return DDPM(MLP((2,), width=4, depth=1), adam, steps=4, sampler=DDIM(2), shape=(2,))
    return GenerativeModule(model, ExactScoreMatching(), adam, sampler=MALA(2), shape=(2,))


READING = {  # what reads splits of the data -> the model that it is for
    "quality": (lambda: callbacks.Quality(PixelFeatures(), n=8, metrics=["fid"]), None),
    "callbacks.likelihood": (lambda: callbacks.FlowLikelihood(n=4), None),
    "callbacks.likelihood ais": (lambda: callbacks.AnnealedImportance(n=4), Gaussian([0.0, 0.0], [1.0, 1.0])),
    "callbacks.likelihood exact": (lambda: callbacks.ExactLikelihood(n=4), Gaussian([0.0, 0.0], [1.0, 1.0])),
    "callbacks.kde": (lambda: callbacks.KernelDensityLikelihood(n=8), None),
    "callbacks.representations": (lambda: callbacks.Representations(n=8), None),
    "callbacks.field": (lambda: callbacks.ScoreField(t=0.5), None),
    "callbacks.energies": (lambda: callbacks.EnergyPictures(), Gaussian([0.0, 0.0], [1.0, 1.0])),
}


@pytest.mark.parametrize("named", READING)
@pytest.mark.parametrize("loaders", [False, True])
def test_what_reads_splits_refuses_other_data_before_any_step(named, loaders, make_trainer):
    kind, model = READING[named]
    module, data = of_the_plane(model), Theirs()
    trainer = make_trainer(kind(), inference_mode=False)
    found = "loaders" if loaders else "a Theirs"
    said = rf"^{named.split()[0]} measures splits of the data, and the trainer has {found}, expected .*GenerativeData: "
    with pytest.raises(TypeError, match=said):
        trainer.fit(module, *[data.train_dataloader()] * 2) if loaders else trainer.fit(module, datamodule=data)
    assert trainer.global_step == 0


@pytest.mark.parametrize("kind", [callbacks.Pictures, callbacks.ChainHealth])
def test_what_needs_no_splits_measures_with_any_data(kind, make_trainer, tmp_path):
    loss, adam = ContrastiveDivergence(MALA(2)), partial(torch.optim.Adam, lr=1e-3)
    energy = GenerativeModule(Gaussian([0.0, 0.0], [1.0, 1.0]), loss, adam, sampler=MALA(2), shape=(2,))
    module = energy if kind is callbacks.ChainHealth else of_the_plane()
    trainer = make_trainer(kind(), inference_mode=False)
    trainer.fit(module, datamodule=Theirs())
    trainer.test(module, datamodule=Theirs(), verbose=False)
    assert trainer.global_step == 4 and (list(tmp_path.glob("samples/*.png")) or list(tmp_path.glob("metrics.json")))


@pytest.mark.parametrize(("every", "steps"), [(0, []), (1, [4, 8, 12]), (2, [8])])
def test_it_measures_at_the_asked_epochs_and_finally(every, steps, known, rows, make_trainer, tmp_path):
    callback, module = Counting(every_n_epochs=every), known()
    trainer = make_trainer(callback, max_epochs=3, num_sanity_val_steps=1)
    trainer.fit(module, rows(), rows())
    assert [step for step, *_ in callback.calls] == steps and not (tmp_path / "metrics.json").exists()
    assert ("count/ema" in trainer.callback_metrics) == bool(steps)
    trainer.test(module, rows(), verbose=False)
    assert callback.calls[-1][1:] == (True, False, False) and not any(final for _, final, *_ in callback.calls[:-1])
    stored = json.loads((tmp_path / "metrics.json").read_text())["count/ema"]
    assert stored["value"] == len(steps) + 1 and stored["name"] == {"quantity": "count", "weights": "ema"}


def test_steps_are_counted_once_where_gradients_are_accumulated(known, rows, make_trainer):
    callback = Counting()
    callback.every_n_steps = 2
    make_trainer(callback, max_epochs=4, accumulate_grad_batches=2).fit(known(), rows())
    assert [step for step, *_ in callback.calls] == [2, 4, 6, 8]


def test_it_leaves_no_trace(known, rows, make_trainer):
    callback, module = Counting(), known()
    trainer = make_trainer(callback)
    trainer.test(module, rows(), verbose=False)
    module.train()
    module.ema.eval()
    before = torch.get_rng_state()
    callback.run(trainer, module, final=False)
    assert torch.equal(before, torch.get_rng_state()) and module.training and not module.ema.training


def test_one_function_says_which_weights(known):
    module = known()
    assert [measured_weights(module, asked) for asked in ("ema", "raw")] == ["ema", "raw"]
    module.ema = None
    assert [measured_weights(module, asked) for asked in ("ema", "raw")] == ["raw", "raw"]


@pytest.mark.parametrize(
    "options", [{"every_n_epochs": -1}, {"weights": "best"}, {"split": "all"}], ids=lambda options: next(iter(options))
)
def test_an_option_out_of_range_is_named(options):
    (key, value) = next(iter(options.items()))
    with pytest.raises(ValueError, match=f"{key} is .?{value}"):
        Counting(**options)


def test_nothing_is_published_where_measuring_stops(known, rows, make_trainer, tmp_path, monkeypatch):
    def diverge(*_):
        raise NonFinite("diverged")

    monkeypatch.setattr(Counting, "measure", diverge)
    with pytest.raises(NonFinite):
        make_trainer(Counting()).test(known(), rows(), verbose=False)
    assert not (tmp_path / "metrics.json").exists()


def test_metrics_from_before_names_had_fields_are_read_and_printed(tmp_path):
    """An entry without the parts of its name is the one that has them."""
    old = {key: Result(value, "estimate", 0.1, "", {"n": 9}).as_dict()
           for key, value in (("fid/digits/ema", 2.0), ("fid/digits/held-out", 1.0), ("energy/gap", 3.0))}  # fmt: skip
    new = {key: {"name": Name.parse(key).parts()} | entry for key, entry in old.items()}
    for entries in (old, new):
        (tmp_path / "metrics.json").write_text(json.dumps(entries))
        metrics = read_metrics(tmp_path / "metrics.json")
        assert [name_of(key, entry) for key, entry in metrics.items()] == list(map(Name.parse, old))
        assert closing_table(metrics) == closing_table(old)

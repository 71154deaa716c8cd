"""What every callback that measures has from its base: when, of which weights, no trace, all ranks or none."""

import inspect
import json

import pytest
import torch

from lightning_gen import callbacks
from lightning_gen.callbacks.measuring import Measuring, measured_weights
from lightning_gen.errors import NonFinite
from lightning_gen.results.report import closing_table
from lightning_gen.results.result import Name, Result, name_of
from lightning_gen.runs.metrics_file import read_metrics

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

"""The best checkpoint by any number that a callback publishes, and a refusal of what none will."""

import json
from pathlib import Path

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping

import run as entry
from lightning_gen.callbacks import Likelihood, Quality
from lightning_gen.callbacks.checkpoints import Checkpoints
from lightning_gen.callbacks.monitored import published
from lightning_gen.data import Digits
from lightning_gen.results.result import Name, Result
from lightning_gen.stages.checkpoint_io import AtomicCheckpointIO
from tests.callbacks.quality_parts import Projection
from tests.callbacks.trainers import trainer as plain_trainer
from tests.families.test_base import digits_module, fit
from tests.test_run import SMALL, TINY


class Said(Quality):
    """Publishes what it is told to, when it is its turn."""

    def __init__(self, name, values, every):
        super().__init__(Projection(), n=64, metrics=["fid", "kid", "is"], every_n_epochs=every)
        self.number, self.values, self.steps = name, list(values), []

    def measure(self, trainer, module, final):
        self.steps.append(trainer.global_step)
        return [Result(self.values[len(self.steps) - 1], "estimate", name=Name.parse(self.number))]


def trainer_of(folder, *callbacks):
    """Up to 20 steps in epochs of two batches; each callback stands once."""
    options = {"enable_checkpointing": True, "max_steps": 20, "max_epochs": -1, "inference_mode": False}
    options |= {"limit_train_batches": 2, "num_sanity_val_steps": 0, "use_distributed_sampler": False}
    return plain_trainer(folder, callbacks, **options)


def best(folder):
    """The step of best.ckpt."""
    return torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]


@pytest.mark.parametrize(
    ("name", "mode", "values", "place"),
    [
        ("fid/projection/ema", None, [5.0, 3.0, 4.0], 1),
        ("is/projection/ema", None, [5.0, 3.0, 4.0], 0),
        ("is/projection/ema", "min", [5.0, 3.0, 4.0], 1),
        ("diversity/projection/ema", None, [1.0, 3.0, 4.0], 2),
        ("kid/projection/ema", None, [float("nan"), 3.0, float("-inf")], 1),
    ],
)
def test_the_best_is_that_of_the_number_and_its_own_direction(name, mode, values, place, tmp_path):
    """Measured every second epoch: at the first validation there is no such number, which is no error."""
    said, saving = Said(name, values, 2), Checkpoints(monitor=name, mode=mode)
    trainer = fit(
        digits_module(),
        tmp_path,
        said,
        saving,
        max_steps=-1,
        max_epochs=6,
        limit_train_batches=1,
        plugins=[AtomicCheckpointIO()],
    )
    assert said.steps == [2, 4, 6] == [trainer.global_step - 4, trainer.global_step - 2, trainer.global_step]
    assert best(tmp_path) == said.steps[place] and saving.best == values[place]


def test_a_resumed_run_goes_on_from_its_best(tmp_path):
    name = "fid/projection/ema"
    saving = Checkpoints(monitor=name)
    saving.load_state_dict({"best": 3.5})
    fit(digits_module(), tmp_path, Said(name, [5.0, 4.0], 1), saving, max_steps=-1, max_epochs=2, limit_train_batches=1)
    assert not (tmp_path / "checkpoints" / "best.ckpt").exists() and saving.best == 3.5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"monitor": "fid/digits/ema"}, "fid/digits/ema.*fid/projection/ema"),
        ({"monitor": "fid/projection/held-out"}, "fid/projection/held-out.*fid/projection/ema"),
        ({"monitor": "fid/projection/raw"}, "fid/projection/raw.*fid/projection/ema"),
        ({"monitor": "nonsense"}, "nonsense, but the run measures [^:]*fid/projection/ema[^:]*: choose one of these$"),
        ({"monitor": "vlb/bits_per_dim/ema"}, "vlb/bits_per_dim/ema.*every_n_epochs"),
        ({"monitor": "kid/projection/ema", "every": 9}, "9.*2 whole epochs"),
        ({"monitor": "kid/projection/ema", "every": 2, "check": 3}, "6.*2.*3"),
    ],
)
def test_what_the_run_will_never_have_is_refused_before_it_starts(options, sentence, tmp_path):
    quality = Said("fid/projection/ema", [1.0] * 9, options.get("every", 1))
    module, saving = digits_module(), Checkpoints(monitor=options["monitor"])
    before = [p.clone() for p in module.parameters()]
    with pytest.raises(ValueError, match=sentence):
        fit(
            module,
            tmp_path,
            quality,
            Likelihood(),
            saving,
            max_steps=-1,
            max_epochs=2,
            check_val_every_n_epoch=options.get("check", 1),
        )
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert not quality.steps


def test_the_last_epoch_counts_if_it_is_whole(tmp_path):
    """20 batches an epoch: 40 steps are two epochs, and a number of every second one comes; 39 are not."""
    name = "fid/projection/ema"
    with pytest.raises(ValueError, match="1 whole epoch"):
        fit(digits_module(), tmp_path, Said(name, [1.0], 2), Checkpoints(monitor=name), max_steps=39)


def stopping(monitor="val/loss/ema", **options):
    return EarlyStopping(monitor, **{"mode": "max", "patience": 1} | options)


def test_early_stopping_counts_each_epochs_own_training_loss(tmp_path):
    """There is no record in so few steps: the mean of the epoch, which an untrained network lowers at first."""
    stop = stopping("train/loss", mode="min")
    trainer = fit(digits_module(), tmp_path, stop, max_steps=6, limit_train_batches=2, log_every_n_steps=50)
    assert trainer.global_step == 6 and stop.wait_count == 0
    assert float(stop.best_score) == float(trainer.callback_metrics["train/loss"])


def test_the_best_by_the_training_loss_is_kept(tmp_path):
    saving = Checkpoints(monitor="train/loss")
    fit(digits_module(), tmp_path, saving, max_steps=4, limit_train_batches=2, log_every_n_steps=50)
    assert saving.mode == "min" and best(tmp_path) == 4


@pytest.mark.parametrize("stop", [{"patience": 1}, {"stopping_threshold": 0.0}], ids=["patience", "threshold"])
def test_a_run_that_was_stopped_early_remains_so(stop, tmp_path):
    """A threshold may be reached in epoch 0, which is the number that Lightning has for not stopped."""
    steps = []
    for path in (None, tmp_path / "checkpoints" / "last.ckpt"):
        trainer = trainer_of(tmp_path, stopping(**stop), Checkpoints())
        trainer.fit(digits_module(), datamodule=Digits(batch_size=64, seed=0), ckpt_path=path, weights_only=True)
        steps.append(trainer.global_step)
    assert steps[0] == steps[1] < 20


@pytest.mark.parametrize(
    ("stop", "options", "said"),
    [
        ({"monitor": "val/los/ema"}, {}, "val/los/ema.*val/loss/ema"),
        ({"check_on_train_epoch_end": True}, {"check_val_every_n_epoch": 2}, "check_on_train_epoch_end is true"),
        ({"monitor": "kid/projection/ema"}, {}, "kid/projection/ema.*every 2.*every 1"),
        ({}, {"check_val_every_n_epoch": 9}, "val/loss/ema.*9.*2 whole epochs"),
        ({}, {"limit_val_batches": 0}, "val/loss/ema.*measures.*train/loss"),
    ],
)
def test_early_stopping_that_would_find_no_number_is_refused(stop, options, said, tmp_path):
    """Or an old one, which would count as one more without an improvement."""
    quality = Said("kid/projection/ema", [1.0] * 9, 2)
    with pytest.raises(ValueError, match=f"EarlyStopping.*{said}|{said}"):
        fit(digits_module(), tmp_path, quality, stopping(**stop), Checkpoints(), max_steps=40, **options)


class Gap(Said):
    """Publishes what nobody knows to be good or bad."""

    def publishes(self, module):
        return {Name.parse(self.number)}


def test_a_number_without_a_direction_needs_one(tmp_path):
    with pytest.raises(ValueError, match="energy/gap.*callbacks.checkpoints.mode"):
        fit(digits_module(), tmp_path, Gap("energy/gap", [1.0], 1), Checkpoints(monitor="energy/gap"), max_steps=1)
    assert Checkpoints(monitor="ais/log_likelihood/forward/raw").mode == "max"
    assert Checkpoints(monitor="val/loss/ema").mode == Checkpoints(monitor="ode/bits_per_dim/ema").mode == "min"


RUNS = {
    "ddpm_digits": TINY,
    "sde_vp_digits": (
        *SMALL,
        "callbacks.likelihood.flow={_target_: lightning_gen.likelihood.ODELikelihood, solver: euler, steps: 2}",
    ),
    "rbm_digits": (
        *(
            "module.hidden=8",
            "callbacks.likelihood.n=4",
            "callbacks.likelihood.schedule=3",
            "callbacks.likelihood.burn=2",
        ),
        *("callbacks.likelihood.chains=4", "callbacks.health=null", "callbacks.energies=null", "sampler.steps=2"),
        *("callbacks.pictures=null", "callbacks.curves=null", "quality.n=20", "logger=none"),
    ),
    "dsm_rings": (
        *(
            "net.width=16",
            "callbacks.pictures=null",
            "callbacks.curves=null",
            "data.n=64",
            "data.val_size=8",
            "data.test_size=32",
            "logger=none",
        ),
        *("quality.n=20", "sampler.steps=2", "callbacks.field.n=8", "callbacks.field.every_n_epochs=1"),
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "ddpm_digits" else ()) for name in RUNS]
)
def test_what_callbacks_say_they_publish_is_what_they_publish(name, tmp_path, monkeypatch):
    """Of every callback that measures, in a real run that measures after each epoch."""
    seen = {}

    def end(self, trainer, module):
        seen["said"], seen["found"] = published(trainer, module), set(trainer.callback_metrics)

    monkeypatch.setattr(Checkpoints, "on_train_end", end)
    words = [*RUNS[name], "quality.every_n_epochs=1", "trainer=cpu", "trainer.check_val_every_n_epoch=1"]
    words += ["callbacks.likelihood.every_n_epochs=1"] * ("rings" not in name)
    # Two epochs, the last of which is measured too.
    words += ["data.batch_size=8", "trainer.max_steps=16"] if "rings" in name else ["data.batch_size=650"]
    words += ["trainer.max_steps=4"] * ("rings" not in name)
    monkeypatch.setattr("run.Session.evaluate", lambda self: None)
    assert entry.main([f"experiment={name}", *words, f"run={tmp_path / 'r'}"]) == 0
    assert {key for key, every in seen["said"].items() if every} == seen["found"] and len(seen["found"]) > 2


def test_the_command_refuses_it_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [*TINY, "quality.every_n_epochs=1", "trainer.check_val_every_n_epoch=1", "trainer.max_steps=100"]
    assert entry.main([*words, "callbacks.checkpoints.monitor=fid/digit/ema"]) == 2
    error = capsys.readouterr().err
    assert "fid/digit/ema" in error and "fid/digits/ema?" in error
    assert not Path("outputs/ddpm_digits/config.yaml").exists()


def test_the_command_keeps_the_best_by_quality(tmp_path):
    words = [*TINY, "quality.every_n_epochs=1", "trainer.check_val_every_n_epoch=1", "trainer.max_steps=6"]
    words += ["data.batch_size=650", "callbacks.checkpoints.monitor=kid/digits/ema", f"run={tmp_path / 'r'}"]
    assert entry.main(words) == 0
    lines = [json.loads(line) for line in (tmp_path / "r" / "record.jsonl").read_text().splitlines()]
    values = {line["step"]: line["value"] for line in lines if line.get("name") == "kid/digits/ema"}
    during = {step: values[step] for step in (2, 4)} | {
        6: next(x["value"] for x in lines if x.get("name") == "kid/digits/ema" and x["step"] == 6)
    }
    assert best(tmp_path / "r") == min(during, key=during.get)

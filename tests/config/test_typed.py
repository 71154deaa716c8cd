"""What a person types: texts with any character, numbers of the trainer that a run cannot mean."""

import pytest

from lightning_gen.config.root import TRAINER
from lightning_gen.config.texts import as_text
from lightning_gen.stages import command, main


@pytest.fixture
def seen(monkeypatch):
    """The configs that reach a job, which does nothing."""
    configs = []
    monkeypatch.setattr(command, "job", lambda config, folder: configs.append(config))
    return configs


TEXTS = [
    "/x/données",
    "/x/a=b",
    "/x/it's",
    "/x/my pics (1)",
    "/x/{a}",
    "/x/[b",
    "/x/a,b",
    "/x/日本",
    "back\\slash",
    "x\\",
]


# A comma outside of a sweep is read as a text for root keys alone.
@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key in ("run", "data.path") for value in TEXTS if (key, value) != ("data.path", "/x/a,b")],
)
def test_a_text_is_what_was_typed(seen, key, value):
    assert main(["data=folder", "data.path=/x", "logger=none", f"{key}={value}"]) == 0
    node = seen[0] if key == "run" else seen[0]["data"]
    assert node[key.split(".")[-1]] == value


@pytest.mark.parametrize("value", ["2024", "true", "1e3"])
def test_a_run_may_be_called_like_a_number(seen, value):
    assert main([f"run={value}", "logger=none"]) == 0
    assert seen[0]["run"] == value


def test_the_home_folder_is_written_as_in_a_shell(seen, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["run=~/runs/a", "logger=none"]) == 0
    assert seen[0]["run"] == str(tmp_path / "runs" / "a")


def test_quotes_sweeps_and_other_keys_stay_as_they_are():
    for word in ("run='a b'", "module.optimizer.lr=1e-3,1e-4", "~callbacks.curves", "run=null", "seed=1=2", "n=3"):
        assert as_text(word, sweeps=True) == word
    assert as_text("run=a,b", sweeps=True) == "run=a,b"
    assert as_text("run=a,b", sweeps=False) == "run='a,b'"


NUMBERS = {
    "gradient_clip_val": ("-1", "nan"),
    "accumulate_grad_batches": ("0", "-2", "1.5"),
    "log_every_n_steps": ("0",),
    "check_val_every_n_epoch": ("0",),
    "max_steps": ("0", "-2"),
    "max_epochs": ("0", "-3"),
    "limit_train_batches": ("0", "0.0", "-1", "1.5"),
    "num_nodes": ("0",),
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in NUMBERS.items() for value in values])
def test_a_number_that_a_run_cannot_mean_is_refused(seen, capsys, key, value):
    assert main([f"trainer.{key}={value}", "logger=none"]) == 2
    message = capsys.readouterr().err
    assert f"trainer.{key} is {value}" in message and "Traceback" not in message
    assert not seen


def test_every_checked_number_has_a_row():
    assert NUMBERS.keys() == TRAINER.keys()


def test_an_object_takes_the_place_of_another_with_its_arguments(seen):
    cosine = "module.scheduler={_target_: torch.optim.lr_scheduler.CosineAnnealingLR, _partial_: true, T_max: 12}"
    assert main([cosine, "logger=none"]) == 0
    assert seen[0]["module"]["scheduler"].keys() == {"_target_", "_partial_", "T_max"}

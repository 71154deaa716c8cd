"""What a person types: texts with any character, numbers of the trainer that a run cannot mean."""

import pytest

from lightning_gen.config.command_line.texts import as_text
from lightning_gen.config.faults import durations
from lightning_gen.config.root import TRAINER
from lightning_gen.stages import command, main


@pytest.fixture
def seen(monkeypatch):
    """The configs that reach a job, which does nothing; nobody looks for their data."""
    configs = []
    monkeypatch.setattr(command, "data_faults", lambda config: [])
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


@pytest.mark.parametrize("value", TEXTS)
def test_a_text_is_what_was_typed(seen, value):
    assert main(["data=folder", f"data.path={value}", f"run={value}", "logger=none"]) == 0
    assert seen[0]["run"] == seen[0]["data"]["path"] == value


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


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        pytest.param("/x/a,/x/日本", ["/x/a", "/x/日本"], marks=pytest.mark.slow),
        ("/x/my pics (1),'/x/a,b',/x/c=d", ["/x/my pics (1)", "/x/a,b", "/x/c=d"]),
        pytest.param("'/x/a,b'", ["/x/a,b"], marks=pytest.mark.slow),
        pytest.param("/x/[1,2],/x/it's", ["/x/[1,2]", "/x/it's"], marks=pytest.mark.slow),
        ("~/a,~/b c", ["/h/a", "/h/b c"]),
    ],
)
def test_in_a_sweep_a_comma_separates_texts_but_for_quotes(seen, monkeypatch, value, paths):
    monkeypatch.setenv("HOME", "/h")
    assert main(["-m", "data=folder", f"data.path={value}", "logger=none", "run=r"]) == 0
    assert [config["data"]["path"] for config in seen] == paths


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("experiment=ddpm_digits,ddpm_mnist", "experiment has several values"),
        ("seed=1,2", "seed has several values (1,2)"),
        ("module.optimizer.lr=1e-3,1e-4", "module.optimizer.lr has several values"),
        ("trainer.max_steps=range(1,3)", "trainer.max_steps has several values"),
    ],
)
def test_several_values_outside_of_a_sweep_are_one_sentence(seen, capsys, word, said):
    assert main([word, "logger=none"]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {said}") and "-m" in message and message.count("\n") == 1
    assert not seen


EMPTY = [("init",), ("samples",), ("run",), ("run", "stage=sample"), ("run", "stage=evaluate")]
EMPTY += [("data.path", "data=folder"), ("data.root", "data=mnist")]


@pytest.mark.parametrize("words", EMPTY)
def test_an_empty_name_is_refused(seen, capsys, words):
    key, *others = words
    assert main([*others, f"{key}=", "logger=none"]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {key} is empty") and message.count("\n") == 1
    assert not seen


NUMBERS = {
    "gradient_clip_val": ("-1", "nan", "inf"),
    "accumulate_grad_batches": ("0", "-2", "1.5"),
    "log_every_n_steps": ("0",),
    "check_val_every_n_epoch": ("0",),
    "max_steps": ("0", "-2"),
    "max_epochs": ("0", "-3"),
    "min_steps": ("-1", "0.5"),
    "min_epochs": ("-4",),
    "limit_train_batches": ("0", "0.0", "-1", "1.5"),
    "limit_test_batches": ("0", "0.0", "-1", "1.5"),
    "limit_predict_batches": ("0", "2.5"),
    "limit_val_batches": ("-1", "1.5", "nan"),
    "overfit_batches": ("-1",),
    "val_check_interval": ("0", "0.0", "-0.5", "1.5"),
    "num_sanity_val_steps": ("-2", "0.5"),
    "reload_dataloaders_every_n_epochs": ("-1",),
    "fast_dev_run": ("-1",),
    "num_nodes": ("0",),
}


@pytest.mark.parametrize("turn", range(max(map(len, NUMBERS.values()))))
def test_a_number_that_a_run_cannot_mean_is_refused_once(seen, capsys, turn):
    words = [f"trainer.{key}={values[turn % len(values)]}" for key, values in NUMBERS.items()]
    assert main([*words, "logger=none"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert sorted(line.split(", ")[0].split(" (")[0] for line in lines) == sorted(
        f"error: {word.replace('=', ' is ')}" for word in words
    )
    assert not seen


@pytest.mark.parametrize("key", ["max_time", "val_check_interval"])
def test_a_time_that_is_none_is_refused(key):
    for value in ("abc", "00:00:00:00", "1:2:3", {"hours": 0}, {"hours": -1}, {"moons": 1}, {"hours": "x"}):
        (fault,) = durations({key: value})
        assert fault.startswith(f"trainer.{key} is {value!r}, expected DD:HH:MM:SS")
    for value in ("00:00:10:00", {"hours": 12}, None):
        assert not list(durations({key: value}))


def test_a_value_that_another_key_gives_has_no_fault_of_its_own(seen, capsys):
    assert main(["seed=-1", "logger=none"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: seed is -1") and message.count("\n") == 1
    assert main(["seed=0", "data.seed=-1", "logger=none"]) == 2
    assert capsys.readouterr().err.startswith("error: data.seed is -1")


def test_every_checked_number_has_a_row():
    choices = {key for key, annotation in TRAINER.items() if annotation.startswith('Literal["')}
    assert NUMBERS.keys() == TRAINER.keys() - choices


def test_an_object_takes_the_place_of_another_with_its_arguments(seen):
    cosine = "module.scheduler={_target_: torch.optim.lr_scheduler.CosineAnnealingLR, _partial_: true, T_max: 12}"
    assert main([cosine, "logger=none"]) == 0
    assert seen[0]["module"]["scheduler"].keys() == {"_target_", "_partial_", "T_max"}


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "lightning_gen.nets.UNet", "channels": 8, "groups": 4, "multipliers": [1], "attention": []},
        {"_target_": "lightning_gen.nets.MLP", "width": 16},
    ],
)
def test_a_node_on_the_command_line_takes_the_place_of_a_group(seen, node):
    typed = ", ".join(f"{key}: {value}" for key, value in node.items())
    assert main(["experiment=ddpm_digits", f"net={{{typed}}}", "logger=none"]) == 0
    assert seen[0]["net"] == node


def test_the_last_of_several_nodes_of_a_group_counts(seen, capsys):
    mlp, unet = (
        "net={_target_: lightning_gen.nets.MLP, width: 16}",
        "net={_target_: lightning_gen.nets.UNet, groups: 4}",
    )
    assert main(["experiment=ddpm_digits", mlp, unet, "logger=none"]) == 0
    assert seen[0]["net"] == {"_target_": "lightning_gen.nets.UNet", "groups": 4}
    assert main(["experiment=dsm_rings", unet, "net=mlp", "logger=none"]) == 0
    assert main(["experiment=dsm_rings", "net=mlp", "logger=none"]) == 0
    assert seen[1]["net"] == seen[2]["net"]
    assert main(["experiment=ddpm_digits", f"~{mlp}", "logger=none"]) == 2
    assert "removes nothing: write net=none, or net={_target_: ...}" in capsys.readouterr().err


def test_a_node_on_the_command_line_holds_nodes_and_texts(seen):
    node = "quality={_target_: lightning_gen.callbacks.Quality, n: 20, metrics: [fid], cache: 'a b, c', features: "
    assert main([f"{node}{{_target_: lightning_gen.metrics.PixelFeatures}}}}", "logger=none"]) == 0
    features = {"_target_": "lightning_gen.metrics.PixelFeatures"}
    expected = {"n": 20, "metrics": ["fid"], "cache": "a b, c", "features": features}
    assert seen[0]["quality"] == expected | {"_target_": "lightning_gen.callbacks.Quality"}

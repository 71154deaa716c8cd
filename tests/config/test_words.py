"""A command line as W&B's agents write it, several loggers, and the folder of an agent's run."""

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from lightning_gen.config.command_line.texts import undashed
from lightning_gen.config.command_line.words import split
from lightning_gen.config.compose import launch
from lightning_gen.errors import ConfigError
from lightning_gen.stages.command import CONFIGS

VALUES = {
    "seed": 3,
    "module.optimizer.lr": 1e-05,
    "module.ema_warmup": False,
    "label": None,
    "net.multipliers": [1, 2],
    "data.path": "a b",
    "quality.metrics": ["fid", "kid"],
}


def composed(*words):
    """(config, run folder) of a command line."""
    found = []
    assert launch(lambda config, folder: found.append((config, str(folder))), CONFIGS, words) == 0
    (one,) = found
    return one


def faults(*words):
    with pytest.raises(ConfigError) as error:
        composed(*words)
    return error.value.faults


@pytest.mark.parametrize("form", ["args", "args_no_equals", "args_no_hyphens"])
def test_each_form_of_an_agents_words_is_the_same_overrides(form):
    args = create_sweep_command_args({"args": {key: {"value": value} for key, value in VALUES.items()}})
    words, said = undashed([*args[form], "logger=none", "-m", "--run"])
    expected = [f"{key}={'null' if value is None else value}" for key, value in VALUES.items()]
    if form == "args_no_hyphens":
        expected[3] = "label=None"  # as a person's own word
    assert words == [*expected, "logger=none", "-m", "--run"] and not said


def test_an_agents_values_reach_the_config_with_their_types():
    (args,) = [create_sweep_command_args({"args": {key: {"value": value} for key, value in VALUES.items()}})["args"]]
    config, folder = composed("--experiment", "ddpm_digits", *(word for word in args if "data.path" not in word))
    for key, value in VALUES.items():
        node = config
        for part in [] if key == "data.path" else key.split("."):
            node = node[part]
        assert key == "data.path" or (node == value and type(node) is type(value)), key
    assert folder == "outputs/ddpm_digits"


def test_spaces_around_an_equals_sign_are_one_fault():
    for words in (("seed", "=", "1"), ("seed", "=1")):
        assert faults(*words) == ["seed = 1 has spaces around =: write seed=1"]


def test_the_experiment_is_the_primary_configs_own_or_that_of_ours_in_its_defaults(tmp_path):
    """By which the options of its sampler are told from others, and a run is named."""
    (ours,) = (each["experiment"] for each in yaml.safe_load((CONFIGS / "config.yaml").read_text())["defaults"][-1:])
    for name, own in (("study", ""), ("other", "  - override experiment: ddpm_mnist\n")):
        (tmp_path / f"{name}.yaml").write_text(f"defaults:\n  - config\n{own}  - _self_\nseed: 5\n")
    mine = ("--config-dir", str(tmp_path), "--config-name")
    assert split([], CONFIGS).experiment({}) == (ours, ours)
    assert split([*mine, "study"], CONFIGS).experiment({}) == (ours, "study")
    assert split([*mine, "other"], CONFIGS).experiment({}) == ("ddpm_mnist", "other")
    for name, folder, experiment in (("study", "outputs/study", ours), ("other", "outputs/other", "ddpm_mnist")):
        config, found = composed(*mine, name)
        assert found == folder and config["module"] == composed(f"experiment={experiment}")[0]["module"]
    assert composed()[1] == f"outputs/{ours}"


def test_help_says_null_as_a_command_line_does(capsys):
    assert launch(lambda config, folder: None, CONFIGS, ["--help"]) == 0
    assert "None" not in capsys.readouterr().out


def test_what_hydra_itself_takes_stays_its_own():
    flags = [
        "--cfg",
        "job",
        "--config-dir",
        "x",
        "--config-dir=y",
        "--allow",
        "z",
        "--multirun",
        "--info=all",
        "--help",
    ]
    assert undashed(flags) == (flags, [])
    assert undashed(["--run=outputs/a", "--n", "-1", "--", "--label", "-.5"]) == (
        ["run=outputs/a", "n=-1", "--", "label=-.5"],
        [],
    )


def test_a_wrong_or_empty_word_is_a_sentence():
    said = faults("--sed=1", "--fresh", "logger=[wandb,wandbb]", "data=[digits,npz]", "--seed")
    for found, meant in (
        ("sed ", "seed"),
        ("--fresh", "fresh="),
        ("wandbb", "wandb?"),
        ("data=", "digits"),
        ("--seed", "seed="),
    ):
        assert any(found in fault and meant in fault for fault in said), (found, said)


def test_several_loggers_stand_under_their_names_and_one_stands_alone():
    config, _ = composed("logger=[wandb,tensorboard]", "logger.wandb.mode=offline", "logger.wandb.tags=[a,b]")
    assert {name: node["_target_"].rpartition(".")[2] for name, node in config["logger"].items()} == {
        "wandb": "Wandb",
        "tensorboard": "TensorBoard",
    }
    assert config["logger"]["wandb"]["mode"] == "offline" and config["logger"]["wandb"]["tags"] == ["a", "b"]
    said = faults("logger=[wandb,tensorboard]", "logger.mode=offline", "logger.wandb.mod=offline")
    assert len(said) == 2 and {fault.split(" ")[0] for fault in said} == {"logger.mode", "logger.wandb.mod"}


def test_an_agents_run_has_a_folder_of_its_own_unless_it_is_named(monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "abc")
    config, folder = composed("logger=wandb")
    assert folder == "outputs/edm_digits" and config["logger"]["_target_"].endswith(".Wandb")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    assert composed("logger=none")[1] == "outputs/edm_digits-abc"
    assert composed("logger=none", "--run=outputs/x")[1] == "outputs/x"

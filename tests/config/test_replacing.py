"""A class or a group that is named takes nothing of the one before; what is no training has a folder of its own."""

import pytest

from lightning_gen.config.source import signature
from lightning_gen.stages import command, main


@pytest.fixture
def seen(monkeypatch):
    """(config, folder) of each job, which does nothing; nobody looks for its data."""
    jobs = []
    monkeypatch.setattr(command, "data_faults", lambda config: [])
    monkeypatch.setattr(command, "job", lambda config, folder: jobs.append((config, folder.path)))
    return jobs


OPTIM, SCHEDULE = "torch.optim.{}", "torch.optim.lr_scheduler.{}"


@pytest.mark.parametrize(
    ("words", "path", "left"),
    [
        ("module.optimizer._target_=torch.optim.SGD", "module.optimizer", {}),
        ("module.optimizer._target_=torch.optim.SGD module.optimizer.lr=1", "module.optimizer", {"lr": 1}),
        (
            "module.scheduler._target_=torch.optim.lr_scheduler.StepLR module.scheduler.step_size=5",
            "module.scheduler",
            {"step_size": 5},
        ),
        ("net._target_=lightning_gen.nets.MLP net.width=16", "net", {"width": 16}),
        ("net=mlp experiment=dsm_rings", "net", {"width": 128, "depth": 3, "scale": 1.0}),
        ("net=mlp net.scale=2 experiment=dsm_rings", "net", {"width": 128, "depth": 3, "scale": 2}),
        ("experiment=ebm_rings module.loss._target_=lightning_gen.losses.ExactScoreMatching", "module.loss", {}),
        ("callbacks.checkpoints._target_=lightning_gen.callbacks.Checkpoints", "callbacks.checkpoints", {}),
    ],
)
def test_a_class_that_is_named_takes_no_argument_of_the_one_before(seen, words, path, left):
    assert main([*words.split(), "logger=none"]) == 0
    node = seen[0][0]
    for part in path.split("."):
        node = node[part]
    assert {key: value for key, value in node.items() if not key.startswith("_")} == left
    assert {*left} <= {parameter.name for parameter in signature(node["_target_"])}
    assert node.get("_partial_", False) == (path in ("module.optimizer", "module.scheduler"))


def test_a_family_keeps_its_parts(seen):
    words = ["module._target_=lightning_gen.families.EDM", "~module.steps", "~module.schedule"]
    assert main(["experiment=ddpm_digits", *words, "logger=none"]) == 0
    assert seen[0][0]["module"]["optimizer"]["lr"] == 1e-3


def test_in_a_sweep_each_network_has_its_own_options(seen, tmp_path):
    words = ["-m", "experiment=ebm_product_digits", "net=unet_digits,ddpmpp_digits", f"run={tmp_path / 'r'}"]
    assert main([*words, "logger=none"]) == 0
    assert [config["net"]["multipliers"] for config, _ in seen] == [[1, 2, 4]] * 2


def test_callbacks_of_several_files_are_merged(seen, capsys):
    assert main(["callbacks=[default,kde]", "logger=none"]) == 0
    assert {"checkpoints", "kde"} <= {*seen[0][0]["callbacks"]}
    assert main(["callbacks=[default,kdf]", "logger=none"]) == 2
    assert "kdf does not exist: did you mean kde" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named", "name"),
    [
        ("trainer=debug", "a", "a-debug"),
        ("trainer.fast_dev_run=3", "a-debug", "a-debug"),
        ("trainer.fast_dev_run=0", "a", "a"),
        ("trainer=overfit", "a", "a-overfit"),
        ("trainer=profile", "a", "a"),
    ],
)
def test_what_is_no_training_has_a_folder_of_its_own(seen, tmp_path, words, named, name):
    """Else the true run, for which `trainer` may change, would go on from its weights."""
    assert main([words, f"run={tmp_path / named}", "logger=none"]) == 0
    assert seen[0][1].name == name

"""What a constructor refuses is said with the path in the config, and weights of another network with their folder."""

import shutil

import pytest
import yaml

import lightning_gen
from lightning_gen.config.instantiate import build, with_path
from lightning_gen.errors import ConfigError
from tests.test_run import BARE, command


def test_a_constructors_message_has_the_path_of_its_node():
    node = {"_target_": "a.Quality", "features": {"_target_": "a.Classifier", "n": 3}}
    assert with_path("Quality.n is 0", node, "quality") == "quality.n is 0"
    assert with_path("Classifier.n is 0", node, "quality") == "quality.features.n is 0"
    assert with_path("Qualit.n is 0", node, "quality") == "Qualit.n is 0"
    with pytest.raises(ConfigError, match=r"^data\.value_range is \[1, 0\], expected low < high"):
        build({"_target_": "lightning_gen.data.Digits", "value_range": [1, 0]}, "data")


@pytest.mark.slow
def test_weights_of_another_network_are_named_by_their_folder(tmp_path, capsys):
    folder = tmp_path / "run"
    assert command(*BARE, "trainer.max_steps=1", f"run={folder}") == 0
    changed = shutil.copytree(folder, tmp_path / "changed")
    config = yaml.safe_load((changed / "config.yaml").read_text())
    config["net"]["channels"] = 16
    (changed / "config.yaml").write_text(yaml.safe_dump(config))
    capsys.readouterr()
    assert command("stage=sample", f"run={changed}", "n=1") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {changed}: the weights do not fit") and "size mismatch" in error
    assert error.count("\n") == 1
    with pytest.raises(ValueError, match="changed: the weights do not fit"):
        lightning_gen.load(changed)


@pytest.mark.parametrize("wrong", [None, 3, ""])
def test_what_is_loaded_is_a_path(wrong):
    with pytest.raises(TypeError, match="path is .*, expected a run folder"):
        lightning_gen.load(wrong)

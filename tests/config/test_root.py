"""The root keys: one list, from which all that is known of a key follows."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import run as entry
from lightning_gen.config.instantiate import complete
from lightning_gen.config.root import DEFAULTS, NODES, ROOT, SAMPLES, STAGES, TEXTS, read_by
from lightning_gen.data import Digits, Rings
from lightning_gen.families import DDPM
from lightning_gen.stages import command

CONFIGS = Path(__file__).resolve().parents[2] / "experiments"


def test_the_primary_config_says_the_same_defaults():
    written = yaml.safe_load((CONFIGS / "config.yaml").read_text())
    assert {key: value for key, value in written.items() if key not in ("defaults", "hydra")} == DEFAULTS
    groups = [next(iter(entry)).removeprefix("override ") for entry in written["defaults"] if isinstance(entry, dict)]
    assert {*groups} - {"experiment"} == {*NODES} - {"module"}


def test_every_key_is_read_by_a_stage_and_every_stage_reads_where_it_writes():
    assert all(key.stages and {*key.stages} <= {*STAGES, SAMPLES} for key in ROOT)
    assert all({"stage", "run", "logger"} <= {*read_by(stage)} for stage in (*STAGES, SAMPLES))
    assert len({key.name for key in ROOT}) == len(ROOT)


@pytest.mark.parametrize("key", [key for key in ROOT if key.type.split()[0] in ("int", "bool", "str")])
def test_a_root_key_of_another_type_is_refused(key, monkeypatch, capsys):
    monkeypatch.setattr(command, "job", lambda *_: None)
    if key.name in TEXTS:  # whatever is typed is a text
        assert entry.main([f"{key.name}.a=1", "logger=none"]) == 2
    else:
        wrong = "{a: 1}"
        assert entry.main([f"{key.name}={wrong}", "logger=none"]) == 2
    assert key.name in capsys.readouterr().err


def config(**net):
    """A config of a conditional U-Net, as it is composed."""
    unet = {"_target_": "lightning_gen.nets.UNet", "channels": 8, **net}
    return {"net": unet, "module": {"_target_": "lightning_gen.families.DDPM", "classes": 10}}


def test_what_the_data_know_is_written_once():
    found = config()
    complete(found, Digits())
    assert found["net"]["classes"] == 11 and found["net"]["shape"] == found["module"]["shape"] == [1, 8, 8]
    assert found["module"]["value_range"] == [-1.0, 1.0]
    again = {**found, "net": dict(found["net"])}
    complete(again, Digits())
    assert again == found
    alone = config() | {"module": {"_target_": "lightning_gen.families.DDPM"}}
    complete(alone, Digits())
    assert alone["net"]["classes"] is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"net": {"classes": 10}}, ["net.classes", "10", "11", "remove"]),
        ({"net": {"shape": [1, 9, 9]}}, ["net.shape", "[1, 9, 9]", "[1, 8, 8]", "remove"]),
        ({"module": {"value_range": [0, 1]}}, ["module.value_range", "[0, 1]", "[-1.0, 1.0]", "remove"]),
        ({"module": {"classes": 9}}, ["module.classes", "9", "10"]),
        ({"net": {"_target_": "lightning_gen.nets.ResNetEnergy"}}, ["module.classes", "ResNetEnergy", "null"]),
    ],
)
def test_a_config_that_contradicts_the_data_is_refused(change, words):
    wrong = config()
    for node, values in change.items():
        wrong[node] |= values
    with pytest.raises(ValueError) as error:
        complete(wrong, Digits())
    assert all(word in str(error.value) for word in words), error.value


class OwnLevels(DDPM):
    """A family whose argument `levels` means what its author says."""

    def __init__(self, net: Any, optimizer: Any, levels: int = 3) -> None:
        super().__init__(net, optimizer, steps=levels)


def test_the_number_of_grey_levels_is_asked_for_by_flows_alone():
    flow = config() | {"module": {"_target_": "lightning_gen.families.Flow", "dequantisation": "uniform"}}
    complete(flow, Digits())
    assert flow["module"]["levels"] == 17
    own = config() | {"module": {"_target_": f"{__name__}.OwnLevels"}}
    complete(own, Digits())
    assert "levels" not in own["module"]


def test_points_have_no_range():
    found = config() | {"module": {"_target_": "lightning_gen.families.DDPM"}}
    complete(found, Rings())
    assert found["module"]["value_range"] is None and found["module"]["shape"] == [2]

"""The tests themselves are tested: every planted error makes the test fail that is there for it."""

import pytest

from tests.planted import PLANTS, ROOT, Plant, verdict
from tests.planted import pytest as run


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_what_is_planted_replaces_one_place_and_leaves_python(plant: Plant):
    text = (ROOT / plant.file).read_text()
    assert text.count(plant.old) == 1 and plant.new != plant.old
    compile(text.replace(plant.old, plant.new), plant.file, "exec")
    file, name = plant.test.split("::")
    assert f"def {name.split('[')[0]}(" in (ROOT / file).read_text(), "the test that should catch it is gone"


@pytest.mark.slow
def test_without_a_plant_the_tests_pass():
    code, output = run(dict.fromkeys(plant.test for plant in PLANTS))
    assert code == 0, output


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_every_planted_error_is_caught(plant: Plant):
    caught, how = verdict(plant)
    assert caught, how

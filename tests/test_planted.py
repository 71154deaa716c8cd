"""The tests themselves are tested: every planted error makes the test fail that is there for it."""

import ast
import dataclasses
import importlib
import inspect
from pathlib import Path

import pytest

from lightning_gen.metrics import FeatureExtractor
from tests.planted import ROOT, Plant, planted, verdict
from tests.planted import pytest as run

PLANTS = planted()


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_a_plant_replaces_one_place_and_leaves_python(plant: Plant):
    text = (ROOT / plant.file).read_text()
    assert text.count(plant.old) == 1 and plant.new != plant.old
    compile(text.replace(plant.old, plant.new), plant.file, "exec")
    file, name = plant.test.split("::")
    assert f"def {name}(" in (ROOT / file).read_text(), "the test that should catch it is gone"


def test_names_select_one_plant():
    names = [plant.name for plant in PLANTS]
    assert len(names) == len(set(names))


def public(package: str) -> list[str]:
    """What a package exports to be computed with: no base class, no container of results, no features, no constant."""
    module, found = importlib.import_module(f"lightning_gen.{package}"), []
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing):
            container = issubclass(thing, tuple | FeatureExtractor) or dataclasses.is_dataclass(thing)
            if not (container or inspect.isabstract(thing)):
                found.append(name)
        elif inspect.isfunction(thing):
            found.append(name)
    return found


def parts(name: str, definitions: dict[str, ast.stmt], others: set[str]) -> set[str]:
    """The definitions of its file that `name` is made of: itself and what its body names, without `others`."""
    known, left = set(), {name}
    while left:
        known |= left
        bodies = [part for name in left for part in definitions[name].body]
        left = {node.id for body in bodies for node in ast.walk(body) if isinstance(node, ast.Name)}
        left = (left & set(definitions)) - known - others
    return known


@pytest.mark.parametrize(
    ("package", "name"),
    [(package, name) for package in ("samplers", "losses", "likelihood", "metrics") for name in public(package)],
)
def test_every_sampler_loss_likelihood_and_metric_has_a_planted_error(package: str, name: str):
    thing = inspect.unwrap(getattr(importlib.import_module(f"lightning_gen.{package}"), name))
    file = inspect.getsourcefile(thing)
    text = Path(file).read_text()
    tree = ast.parse(text).body
    definitions = {part.name: part for part in tree if isinstance(part, ast.ClassDef | ast.FunctionDef)}
    others = set(public(package)) if inspect.isclass(thing) else set()
    own = [definitions[part] for part in parts(name, definitions, others)]
    lines = [
        text[: text.index(plant.old)].count("\n") + 1 for plant in PLANTS if ROOT / plant.file == Path(file).resolve()
    ]
    assert any(part.lineno <= line <= part.end_lineno for part in own for line in lines), f"plant one in {file}"


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted({plant.test.split("::")[0] for plant in PLANTS}))
def test_without_a_plant_the_tests_pass(file: str):
    code, output = run(dict.fromkeys(plant.test for plant in PLANTS if plant.test.startswith(f"{file}::")))
    assert code == 0, output


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_every_planted_error_is_caught(plant: Plant):
    caught, how = verdict(plant)
    assert caught, how

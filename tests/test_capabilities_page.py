"""The tables of docs/capabilities.md are those of the code."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

from torch import nn

import lightning_gen
from lightning_gen import models
from lightning_gen.models import (
    RBM,
    VAE,
    Autoregressive,
    GaussianBernoulliRBM,
    Model,
    Quadrature,
    Requires,
    SumOfEnergies,
    capabilities,
)
from lightning_gen.models.requirements import concrete
from lightning_gen.nets import MADE
from tests.likelihood.linear import Linear

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "capabilities.md").read_text()
SUMS = {"real": GaussianBernoulliRBM, "binary": RBM}
NAMED = re.compile(r"`(\w+)`")


def tables():
    """The rows of every table, each a list of cells, by the head of its first column."""
    blocks = re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE)
    parsed = [
        [[cell.strip() for cell in row.strip("|\n").split("|")] for row in block.splitlines()] for block in blocks
    ]
    return [(rows[0], rows[2:]) for rows in parsed]


def table(head):
    """Head and rows of the one table whose first column is called so."""
    (found,) = [each for each in tables() if each[0][0] == head]
    return found


def askers():
    """Every sampler, loss, estimator, representation and callback of the package that needs something, by name."""
    for module in pkgutil.walk_packages(lightning_gen.__path__, "lightning_gen."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    ours = (each for each in concrete(Requires) if each.__module__.startswith("lightning_gen."))
    return {each.__name__: each for each in ours if each.needs}


def below(root):
    """Every class below `root`."""
    return {each for child in root.__subclasses__() for each in {child, *below(child)}}


def is_capability(cls):
    """Whether it is a class that a model may have as a capability."""
    return "title" in vars(cls)


def test_every_capability_is_listed_with_those_that_it_contains():
    _, rows = table("capability")
    ours = (each for each in below(Model) if each.__module__.startswith("lightning_gen.") and is_capability(each))
    known = {each.__name__: each for each in ours}
    assert {NAMED.search(row[0])[1] for row in rows} == set(known)
    for name, _, contains in rows:
        bases = [each.__name__ for each in known[NAMED.search(name)[1]].__mro__[1:] if is_capability(each)]
        assert sorted(NAMED.findall(contains)) == sorted(bases), name


def test_every_model_has_the_capabilities_that_the_table_says():
    head, rows = table("model")
    columns = [NAMED.search(cell)[1] for cell in head[2:]]
    assert set(columns) == {NAMED.search(row[0])[1] for row in table("capability")[1]}
    named = {name for row in rows for name in NAMED.findall(row[0])}
    assert named == {
        name
        for name in models.__all__
        if isinstance(cls := getattr(models, name), type)
        and issubclass(cls, Model)
        and not is_capability(cls)
        and not inspect.isabstract(cls)
        and cls is not Model
    }
    for cells in rows:
        said = {column for column, cell in zip(columns, cells[2:], strict=True) if cell == "yes"}
        for name in NAMED.findall(cells[0]):
            if name == "SumOfEnergies":
                model = SumOfEnergies(SUMS[cells[1]](2, 3), SUMS[cells[1]](2, 3))
            elif name == "VAE":
                model = VAE(Linear(2, 2), {"real": "gaussian", "binary": "bernoulli"}[cells[1]])
            elif name == "Autoregressive":
                model = Autoregressive(MADE((2,), {"binary": 2, "levels": 3}[cells[1]]))
            elif name == "Quadrature":
                model = Quadrature(nn.Linear(1, 1), "exp", 0.0, 1.0)
            else:
                cls = getattr(models, name)
                assert cls.support.kind == cells[1], name
                assert said == {each.__name__ for each in cls.__mro__ if is_capability(each)}, name
                continue
            assert model.support.kind == cells[1], name
            assert said == {each.__name__ for each in capabilities(model)}, name


def test_every_asker_is_listed_with_what_it_needs():
    known, named = askers(), []
    for head, rows in tables():
        if head[1] != "needs":
            continue
        for cells in rows:
            for name in NAMED.findall(cells[0]):
                named.append(name)
                assert NAMED.findall(cells[1].split(":")[0]) == [each.__name__ for each in known[name].needs], name
                over = "any" if {*known[name].supports} == {*Requires.supports} else " or ".join(known[name].supports)
                assert cells[2] == over, name
    assert sorted(named) == sorted(known)

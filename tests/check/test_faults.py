"""Every law finds the class in which its fault is planted, and no other law does; the same class without it passes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import run as entry
from lightning_gen.check import laws_of
from lightning_gen.config.command_line.named import node
from tests.extensions import on_path

NETS = ("Shape", "Dtype", "Finite", "Batch", "Time", "Label", "Eval", "SecondDerivative", "Save", "Gradient", "Compile")
NETS += ("DefinitionOfAFlow", "DefinitionOfACausalNetwork")
FAULTS = {
    "nets": {name: {name.lower()} for name in NETS}
    | {name: {"definition"} for name in NETS[-2:]}
    | {"SecondDerivative": {"second derivative"}},
    "data": {
        name: {name.lower()}
        for name in ("Splits", "Range", "Disjoint", "Fingerprint", "Decode", "Batches", "Workers", "Resume")
    }
    | {"Pictures": {"workers"}},
    "samplers": {name: {name.lower()} for name in ("Fits", "Mixture", "Generator", "Evaluations", "Shape", "First")}
    | {"Gaussian": {"gaussian", "mixture"}},
    "losses": {name: {name.lower()} for name in ("Fits", "Shape", "Minimum", "Gradient", "Generator")}
    | {"Accepts": {"fits"}},
    "adversarial": {name: {name.lower()} for name in ("Shape", "Minimum", "Direction")},
}
LANGEVIN = ("steps=200", "step_size=0.005")
WORDS = {"DefinitionOfAFlow": ("shape=[2]", "width=8", "couplings=2"), "DefinitionOfACausalNetwork": ("width=16",)}
WORDS |= dict.fromkeys(("Gaussian", "Generator", "First"), LANGEVIN)
METRICS = ("measured", "known", "direction", "few", "repeated")


@pytest.fixture(scope="module", autouse=True)
def package() -> Iterator[None]:
    """The faulty classes as a package of somebody else's; what it registers is forgotten."""
    from lightning_gen.metrics import registry

    registry.metrics()
    before = dict(registry.METRICS), dict(registry.QUANTITIES)
    with on_path(Path(__file__).parent, "faulty"):
        yield
    for known, kept in zip((registry.METRICS, registry.QUANTITIES), before, strict=True):
        known.clear()
        known.update(kept)


def failed(target, *words):
    """The laws that do not hold."""
    leave_out = () if target.endswith("Compile") else ("compile",)
    rows = list(laws_of(node(target, words), leave_out)[1])
    assert all(each.text for each in rows)
    return {each.law for each in rows if each.verdict == "FAIL"}


@pytest.mark.parametrize(("room", "name"), [(room, name) for room, names in FAULTS.items() for name in names])
def test_a_planted_fault_is_found_by_its_law(room, name):
    assert (
        failed(f"faulty.{room}.{name}", *(WORDS.get(name, ()) if room in ("nets", "samplers") else ()))
        == FAULTS[room][name]
    )


@pytest.mark.parametrize("room", ["nets", "data", "losses", "adversarial"])
def test_the_class_without_it_passes(room):
    assert failed(f"faulty.{room}.Good") == set()


@pytest.mark.parametrize("name", ["good", *METRICS])
def test_a_faulty_metric_is_found(name):
    import faulty  # noqa: F401  # registers them

    assert failed(f"faulty_{name}") == ({name} - {"good"})


@pytest.mark.parametrize("name", ["Good", "Step", "Resume", "Samples", "Export"])
def test_a_faulty_family_is_found(name, capsys):
    words = ["check", f"faulty.families.{name}", "net._target_=lightning_gen.nets.MLP", "net.width=16"]
    assert entry.main(words) == (0 if name == "Good" else 1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("FAIL")] == ([] if name == "Good" else [name.lower()])


def test_a_faulty_config_is_found(capsys):
    words = ["experiment=sde_vp_digits", "net=mlp", "sampler=ddim", "sampler.clip=[0.0,3.0]", "module.classes=null"]
    assert entry.main(["check", *words]) == 1
    out = capsys.readouterr().out
    assert "FAIL    composes" in out and "sampler.clip" in out and out.count("FAIL") == 1

"""The notebooks run from the first cell to the last, with few steps, and are stored without outputs."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).resolve().parents[1]
# What replaces the values of the cell that is tagged "parameters", as papermill does it.
TINY = {
    "quickstart": {"STEPS": 2, "SAMPLES": 16, "SAMPLER_STEPS": 4, "QUALITY": "pixels"},
    "samplers_and_likelihood": {"STEPS": 20, "SAMPLES": 16, "POINTS": 4, "ODE_STEPS": 4},
    "energies": {"STEPS": 20, "HIDDEN": 4, "TEMPERATURES": (2, 5)},
    "comparing": {"STEPS": 2, "SAMPLES": 16},
}


def cells(name):
    return json.loads((ROOT / "docs/notebooks" / f"{name}.ipynb").read_text())["cells"]


def test_each_notebook_has_few_steps_here():
    assert {path.stem for path in ROOT.glob("docs/notebooks/*.ipynb")} == TINY.keys()


@pytest.mark.parametrize("name", TINY)
def test_a_notebook_is_stored_without_outputs(name):
    code = [cell for cell in cells(name) if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in cells(name)}) == len(cells(name))


@pytest.mark.parametrize("name", [pytest.param(x, marks=pytest.mark.slow if x == "comparing" else ()) for x in TINY])
def test_a_notebook_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for i, cell in enumerate(cells(name)):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{name}, cell {i}", "exec"), names)
            if "parameters" in cell["metadata"].get("tags", []):
                assert TINY[name].keys() <= names.keys()
                names |= TINY[name]
    plt.close("all")

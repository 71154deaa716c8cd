"""python -m lightning_gen.convert as a user meets it: what it writes works everywhere, and wrong input exits 2."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import lightning_gen
import run as entry
from lightning_gen.config.instantiate import build_module
from lightning_gen.convert.__main__ import main
from lightning_gen.runs.load import start_from

from .reference import checkpoint
from .test_score_sde import SMALL, TINY

ROOT = Path(__file__).resolve().parents[2]


class Payload:
    """What a pickle would run if it were allowed to."""

    def __reduce__(self):
        return os.system, ("touch payload-ran",)


@pytest.fixture
def file(tmp_path):
    torch.save(checkpoint(TINY), tmp_path / "c.pth")
    return tmp_path / "c.pth"


@pytest.mark.parametrize("name", ["ve", "vp", "ve-skip"])
def test_an_import_loads_samples_and_starts_a_run(tmp_path, capsys, name):
    torch.save(checkpoint(SMALL[name]), tmp_path / "c.pth")
    target, sde = tmp_path / "there", name.split("-")[0]
    assert main([str(tmp_path / "c.pth"), str(target), "--sde", sde, "--size", "8"]) == 0
    assert "imported: score_sde c.pth, ema, step 7" in capsys.readouterr().out

    module = lightning_gen.load(target)
    steps = ["sampler.predictor.steps=3"] if sde == "ve" else ["sampler.steps=3"]
    (module.sampler.predictor if sde == "ve" else module.sampler).steps = 3
    images = module.sample(2, seed=1)
    assert images.shape == (2, 1, 8, 8) and images.min() >= 0 and images.max() <= 1

    assert entry.main(["stage=sample", f"run={target}", "n=2", "seed=1", "trainer.accelerator=cpu", *steps]) == 0
    (archive,) = (target / "samples").glob("*.npz")
    drawn = torch.as_tensor(np.load(archive)["images"]).permute(0, 3, 1, 2)
    assert (drawn / 255 - images).abs().max() <= 0.5 / 255 + 1e-5


def test_a_run_starts_from_an_import(tmp_path, file):
    """What init= does: a new run of the same network, of another seed, has the imported averages and frequencies."""
    target = tmp_path / "there"
    assert main([str(file), str(target), "--size", "8"]) == 0
    stored = yaml.safe_load((target / "config.yaml").read_text())
    fresh = build_module(stored | {"seed": 5})
    start_from(fresh, target)
    imported = lightning_gen.load(target)
    for one, other in ((fresh.model, imported.averaged), (fresh.averaged, imported.averaged)):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
        assert torch.equal(one.net.embedding.frequencies, other.net.embedding.frequencies)


def test_the_two_sets_of_weights_differ_and_the_config_says_which(tmp_path, file):
    kept = {}
    for weights in ("ema", "raw"):
        target = tmp_path / weights
        assert main([str(file), str(target), "--weights", weights, "--size", "8"]) == 0
        module = lightning_gen.load(target)
        kept[weights] = module.averaged.net.first.weight
        assert (module.ema is None) == (weights == "raw")
    assert not torch.equal(kept["ema"], kept["raw"])
    assert torch.equal(kept["raw"], torch.load(file, weights_only=True)["model"]["module.all_modules.3.weight"])


def test_a_pickle_is_not_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Payload()}, tmp_path / "c.pth")
    assert main(["c.pth", "there"]) == 2
    assert "c.pth" in capsys.readouterr().err
    assert not (tmp_path / "payload-ran").exists() and not (tmp_path / "there").exists()


def broken(tmp_path, name):
    """A source with one fault."""
    source = tmp_path / name
    match name:
        case "folder":
            source.mkdir()
        case "config":
            source.mkdir()
            (source / "config.json").write_text("{")
            (source / "diffusion_pytorch_model.bin").write_bytes(b"")
        case "empty.pth" | "empty.safetensors":
            source.write_bytes(b"")
        case "words.pth":
            source.write_text("hello")  # which torch.load's unpickler reads as an instruction: a KeyError
        case "run":
            source.mkdir()
            (source / "config.yaml").write_text("seed: 0")
        case "half.pth":
            torch.save(checkpoint(TINY), source)
            source.write_bytes(source.read_bytes()[:5000])
        case "list.pth":
            torch.save([torch.zeros(2)], source)
        case "numbers.pth":
            torch.save({"model": {"a": 1}}, source)
        case "other.pth":
            torch.save({"model": {"conv.weight": torch.zeros(2, 2)}}, source)
        case "convs.pth":
            torch.save({"model": {"all_modules.0.weight": torch.zeros(2, 2, 3, 3)}}, source)
    return source


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere.pth", "nowhere.pth"),
        ("folder", "folder/config.json"),
        ("config", "config.json.*JSON"),
        ("run", "run is a run or an export of this program.*write run="),
        ("empty.pth", "empty.pth.*plain tensors"),
        ("empty.safetensors", "empty.safetensors.*plain tensors"),
        ("words.pth", "words.pth.*plain tensors"),
        ("half.pth", "half.pth.*plain tensors"),
        ("list.pth", "list.pth.* list.*tensors"),
        ("numbers.pth", "numbers.pth has neither.*all_modules"),
        ("other.pth", "other.pth has neither.*all_modules"),
        ("convs.pth", "1 modules.*NCSN"),
    ],
)
def test_wrong_input_exits_two_with_one_sentence(tmp_path, capsys, name, says):
    assert main([str(broken(tmp_path, name)), str(tmp_path / "there")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and re.search(says, said) and said.count("\n") == 1
    assert not (tmp_path / "there").exists()


def test_an_address_is_not_opened(tmp_path, capsys):
    assert main(["https://example.org/c.pth", str(tmp_path / "there")]) == 2
    assert "local file" in capsys.readouterr().err


def test_an_export_is_never_written_over(tmp_path, capsys, file):
    words = [str(file), str(tmp_path / "there"), "--size", "8"]
    assert main(words) == 0
    before = (tmp_path / "there" / "model.safetensors").read_bytes()
    assert main([*words, "--weights", "raw"]) == 2
    assert "already" in capsys.readouterr().err
    assert (tmp_path / "there" / "model.safetensors").read_bytes() == before


def test_an_import_needs_no_lightning():
    code = "import sys, lightning_gen.convert; print('pytorch_lightning' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

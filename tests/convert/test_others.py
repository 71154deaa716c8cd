"""Checkpoints of EDM and of pytorch-ddpm: names, shapes, and the outputs of independent functions of their tensors."""

import pickle
import re
import sys
import types

import pytest
import torch

import lightning_gen
from lightning_gen.convert import read_checkpoint, read_edm, read_pytorch_ddpm, write
from lightning_gen.convert.__main__ import main
from lightning_gen.convert.edm import network_arguments, targets
from lightning_gen.nets import NCSNpp, UNet

from .others import Weights, ddpm_checkpoint, ddpm_unet, edm_state, song_unet

DDPMPP = {"nf": 8, "mult": (1, 2), "blocks": 1, "attn": (4,), "taps": (1, 1), "fourier": False, "residual": False}
DDPMPP |= {"skip": False}
NCSNPP = DDPMPP | {"taps": (1, 3, 3, 1), "fourier": True, "residual": True}
EDM = {
    "ddpmpp": DDPMPP,
    "ncsnpp": NCSNPP,
    "deep": DDPMPP | {"mult": (2, 1, 2), "blocks": 2, "attn": (8, 2)},
    "output_skip": NCSNPP | {"mult": (1, 1, 2), "skip": True},
}
PUBLISHED = {"nf": 128, "mult": (2, 2, 2), "blocks": 4, "attn": (16,)}
UNIT = {"ch": 32, "mult": (1, 2), "blocks": 1, "attn": (1,), "T": 50}


def stripped(state):
    return {name.removeprefix("model."): value.double() for name, value in state.items()}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ddpmpp", "VPPrecond"), ("ncsnpp", "VEPrecond"), *((name, "EDMPrecond") for name in EDM)],
)
def test_the_denoiser_is_that_of_edm(tmp_path, name, kind):
    """D(x, sigma) = c_skip x + c_out F(c_in x, c_noise), x in [-1, 1], of their three classes, written out here."""
    settings = EDM[name]
    state = edm_state(settings)
    torch.save({"ema": state, "precond": kind}, tmp_path / "edm.pt")
    write(read_edm(tmp_path / "edm.pt"), tmp_path / "there")
    module = lightning_gen.load(tmp_path / "there").double()
    model, process = module.averaged, module.averaged.process
    t = torch.tensor([0.3, 0.9], dtype=torch.float64)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alpha, noise = (level.reshape(2, 1, 1, 1) for level in (process.alpha(t), process.sigma(t)))
    # Theirs is told x / alpha in [-1, 1], ours x in its own range.
    half = kind == "VEPrecond"
    theirs, sigma = (2 * x - 1, 2 * noise) if half else (x / alpha, noise / alpha)
    total, rate = (sigma**2 + 0.25).sqrt(), 1 / (sigma**2 + 1).sqrt()
    time = 999 * ((0.01 + 39.8 * (1 + sigma**2).log()).sqrt() - 0.1) / 19.9
    c_skip, c_out, c_in, c_noise = {
        "EDMPrecond": (0.25 / total**2, 0.5 * sigma / total, 1 / total, sigma.log() / 4),
        "VPPrecond": (1, -sigma, rate, time),
        "VEPrecond": (1, sigma, 1, (sigma / 2).log()),
    }[kind]
    output = song_unet(Weights(stripped(state)), c_in * theirs, c_noise.flatten(), settings)
    expected = c_skip * theirs + c_out * output
    with torch.no_grad():
        got = model.denoise(x, t)
    assert output.std() > 1e-2
    torch.testing.assert_close(2 * got - 1 if half else got, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["ddpmpp", "ncsnpp"])
def test_every_tensor_of_a_published_network_has_a_place(name):
    """EDM's CIFAR-10 networks, with the layer that is told of augmentation, whose 9 columns are left out."""
    settings = EDM[name] | PUBLISHED
    with torch.device("meta"):
        w = Weights()
        song_unet(w, torch.zeros(1, 3, 32, 32), torch.ones(1), settings)
        tensors = {n: torch.zeros(shape) for n, shape in w.shapes.items()}
    width = len(settings["taps"])
    tensors |= {n: torch.ones(1, 1, width, width) for n in tensors if n.endswith("filter")}
    used = {n: v for n, v in tensors.items() if not n.endswith("filter") and n != "map_augment.weight"}
    arguments = network_arguments(tensors)
    with torch.device("meta"):
        net = NCSNpp(**arguments)
    found = targets(used, arguments)
    assert {*found} == {*used} and {target.name for target in found.values()} == {*net.state_dict()}
    count = sum(value.numel() for value in net.state_dict().values())
    assert count == sum(value.numel() for value in used.values())
    assert count == 55_732_739 or name != "ddpmpp"


@pytest.fixture
def persistent(tmp_path):
    """A pickle as EDM's: it names torch_utils.persistence, which would run the code that it brings."""
    ran = []
    module = types.ModuleType("torch_utils.persistence")
    module.rebuild = lambda *_: ran.append(1)
    module.rebuild.__module__, module.rebuild.__qualname__ = "torch_utils.persistence", "rebuild"
    sys.modules |= {"torch_utils": types.ModuleType("torch_utils"), "torch_utils.persistence": module}

    class Network:
        def __reduce__(self):
            return module.rebuild, ("import os",)

    try:
        (tmp_path / "edm.pkl").write_bytes(pickle.dumps({"ema": Network()}))
        torch.save({"net": Network()}, tmp_path / "training-state.pt")
        yield tmp_path
    finally:
        del sys.modules["torch_utils"], sys.modules["torch_utils.persistence"]
    assert not ran


def test_a_pickle_of_edm_is_not_run_and_the_remedy_is_said(persistent, capsys):
    assert main([str(persistent / "edm.pkl"), str(persistent / "there")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "pickle of EDM's" in said and f"open('{persistent / 'edm.pkl'}', 'rb')" in said
    compile(re.search(r'python -c "(.*)", and', said)[1], "remedy", "exec")


def test_a_training_state_of_edm_is_not_run_and_the_file_beside_it_is_named(persistent, capsys):
    assert main([str(persistent / "training-state.pt"), str(persistent / "there")]) == 2
    said = capsys.readouterr().err
    assert "pickle of EDM's" in said and "network-snapshot-*.pkl" in said and "python -c" not in said


def test_a_file_of_unknown_code_is_taken_for_nobodys(tmp_path):
    for number, content in enumerate(({"conv.weight": torch.zeros(2)}, {"model": {"a": torch.zeros(2)}}, {"epoch": 3})):
        torch.save(content, tmp_path / f"{number}.pt")
        with pytest.raises(ValueError, match=f"{number}.pt has neither the names of EDM.*pytorch-ddpm.*score_sde"):
            read_checkpoint(tmp_path / f"{number}.pt")


def test_a_file_without_names_is_refused(tmp_path, capsys):
    torch.save({0: torch.zeros(2)}, tmp_path / "a.pt")
    assert main([str(tmp_path / "a.pt"), str(tmp_path / "there")]) == 2
    assert "expected names with tensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("map_label.weight", "with labels.*not built"),
        ("out_norm.weight", "DhariwalUNet.*not built"),
        ("enc.4x4_aux_skip.weight", "input_skip.*not built"),
        ("enc.4x4_block7.conv0.weight", r"enc.4x4_block7.conv0.weight is not of this network"),
        ("dec.8x8_other.weight", r"dec.8x8_other.weight is not of this network"),
    ],
)
def test_another_network_of_edm_is_refused_by_name(tmp_path, name, says):
    torch.save({"ema": edm_state(DDPMPP) | {f"model.{name}": torch.zeros(2, 2)}}, tmp_path / "edm.pt")
    with pytest.raises(ValueError, match=says):
        read_checkpoint(tmp_path / "edm.pt")


def test_what_edm_wraps_is_told_by_the_file_or_asked(tmp_path):
    torch.save(edm_state(DDPMPP), tmp_path / "flat.pt")  # without ema, as net.state_dict() is
    assert read_checkpoint(tmp_path / "flat.pt").source == "edm flat.pt, EDMPrecond"
    assert read_checkpoint(tmp_path / "flat.pt", sde="ve").module["value_range"] == [0.0, 1.0]
    with pytest.raises(ValueError, match="--weights is given, and .*flat.pt is of EDM, which does not take it"):
        read_checkpoint(tmp_path / "flat.pt", weights="raw")
    torch.save({"ema": edm_state(DDPMPP), "precond": "iDDPMPrecond"}, tmp_path / "edm.pt")
    with pytest.raises(ValueError, match="precond is iDDPMPrecond, expected EDMPrecond, VPPrecond, VEPrecond"):
        read_checkpoint(tmp_path / "edm.pt")
    with pytest.raises(ValueError, match="--sde is vp, and .*edm.pt says that its precond is iDDPMPrecond"):
        read_checkpoint(tmp_path / "edm.pt", sde="vp")


def test_a_file_is_read_once(tmp_path, monkeypatch):
    """Published ones have gigabytes."""
    files, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda file, **options: files.append(file.name) or load(file, **options))
    torch.save(edm_state(DDPMPP), tmp_path / "edm.pt")
    torch.save(ddpm_checkpoint(UNIT), tmp_path / "ddpm.pt")
    assert read_checkpoint(tmp_path / "edm.pt").source == "edm edm.pt, EDMPrecond"
    read_checkpoint(tmp_path / "ddpm.pt", size=8)
    assert files == ["edm.pt", "ddpm.pt"]


@pytest.mark.parametrize("weights", ["ema", "raw"])
@pytest.mark.parametrize(
    "settings", [UNIT, UNIT | {"mult": (1, 2, 1), "blocks": 2, "attn": (0, 2)}], ids=["two", "three"]
)
def test_the_noise_is_that_of_pytorch_ddpm(tmp_path, weights, settings):
    content = ddpm_checkpoint(settings)
    torch.save(content, tmp_path / "ckpt.pt")
    assert main([str(tmp_path / "ckpt.pt"), str(tmp_path / "there"), "--weights", weights, "--size", "8"]) == 0
    module = lightning_gen.load(tmp_path / "there").double()
    state = stripped(content["ema_model" if weights == "ema" else "net_model"])
    t = torch.tensor([0, 3, settings["T"] - 1])
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = ddpm_unet(Weights(state), x, t, settings)
    with torch.no_grad():
        got = module.averaged.net(x, t.double())
    assert expected.std() > 1e-2
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=2e-6)  # their table of sines is float32


def test_the_published_network_of_pytorch_ddpm_has_a_place_for_each_tensor():
    from lightning_gen.convert.pytorch_ddpm import network_arguments, targets

    settings = {"ch": 128, "mult": (1, 2, 2, 2), "blocks": 2, "attn": (1,), "T": 1000}
    with torch.device("meta"):
        w = Weights()
        ddpm_unet(w, torch.zeros(1, 3, 32, 32), torch.ones(1, dtype=torch.long), settings)
        tensors = {name: torch.zeros(shape) for name, shape in w.shapes.items()}
        net = UNet(**network_arguments(tensors, 32))
    found = targets(tensors)
    assert {*tensors} - {*found} == {"time_embedding.timembedding.0.weight"}
    assert {target.name for target in found.values()} == {*net.state_dict()}
    assert sum(value.numel() for value in net.parameters()) == 35_746_307


def test_another_file_than_pytorch_ddpms_is_refused(tmp_path):
    content = ddpm_checkpoint(UNIT)
    torch.save({"net_model": content["net_model"]}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="has no ema_model, the ema weights"):
        read_pytorch_ddpm(tmp_path / "a.pt")
    torch.save({"net_model": {"conv.weight": torch.zeros(2)}}, tmp_path / "b.pt")
    with pytest.raises(ValueError, match="not those of pytorch-ddpm's U-Net"):
        read_checkpoint(tmp_path / "b.pt", weights="raw")
    table = "time_embedding.timembedding.0.weight"
    torch.save({"ema_model": content["ema_model"] | {table: content["ema_model"][table][:, :4]}}, tmp_path / "d.pt")
    with pytest.raises(ValueError, match="has 4 waves, expected 32"):
        read_pytorch_ddpm(tmp_path / "d.pt", size=8)
    content["ema_model"]["extra.weight"] = torch.zeros(2)
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="extra.weight is not of this network"):
        read_checkpoint(tmp_path / "c.pt", size=8)


def test_the_conventions_differ_in_what_they_say():
    """One set of weights, two functions of it: by epsilon and by padding."""
    options = {"shape": (1, 8, 8), "channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "groups": 4}
    one, other = UNet(**options), UNet(**options, convention="pytorch")
    other.load_state_dict(one.state_dict())
    assert {module.eps for module in one.modules() if isinstance(module, torch.nn.GroupNorm)} == {1e-6}
    assert {module.eps for module in other.modules() if isinstance(module, torch.nn.GroupNorm)} == {1e-5}
    x = torch.randn(1, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    conv = other.down[1].conv
    torch.testing.assert_close(other.down[1](x), torch.nn.functional.conv2d(x, conv.weight, conv.bias, 2, 1))
    assert not torch.equal(one.down[1](x), other.down[1](x))

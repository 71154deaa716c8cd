"""stage=export format=diffusers: their own classes load the folder, and sample as we do."""

import json
import re

import pytest
import torch
import yaml

import lightning_gen
import run as entry
from lightning_gen.convert import read_diffusers, write
from lightning_gen.convert.to_diffusers import check, write_diffusers
from lightning_gen.samplers import DDIM, Ancestral
from tests.convert.test_save import by_hand

from ..nets.test_unet import batch

diffusers = pytest.importorskip("diffusers", reason="the test extra installs diffusers")
UNET = {"_target_": "lightning_gen.nets.UNet", "channels": 8, "groups": 4, "dropout": 0.0, "blocks": 1}
SHAPES = {
    "square": {"shape": [1, 8, 8], "multipliers": [1, 2], "attention": [4]},
    "oblong": {"shape": [3, 16, 8], "multipliers": [1, 2, 2], "attention": [16, 4], "blocks": 2},
    "default attention": {"shape": [1, 8, 8], "multipliers": [1, 3], "attention": None},
    "no attention": {"shape": [1, 8, 8], "multipliers": [1, 1], "attention": []},
}


def exported(tmp_path, sampler=None, net=None, **module):
    """A DDPM, and the folder for diffusers that the command line makes of it."""
    made = by_hand(sampler=sampler or Ancestral("large", clip=(-1, 1)), net=net, **module)
    folder = lightning_gen.save(made, tmp_path / "made")
    assert entry.main(["stage=export", "format=diffusers", f"run={folder}"]) == 0
    return made, folder / "diffusers"


SLOW = pytest.mark.slow


@pytest.mark.parametrize("name", ["oblong", *(pytest.param(n, marks=SLOW) for n in SHAPES if n != "oblong")])
def test_their_network_gives_our_output_and_is_read_back(name, tmp_path):
    from lightning_gen.nets import UNet

    node = UNET | SHAPES[name]
    torch.manual_seed(0)
    net = UNet(**{key: value for key, value in node.items() if key[0] != "_"}).eval()
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    module = {"_target_": "lightning_gen.families.DDPM", "steps": 30, "schedule": "cosine", "value_range": [-1, 1]}
    config = {"net": node, "module": module, "sampler": {"_target_": "lightning_gen.samplers.Ancestral"}}
    write_diffusers(config, {f"model.net.{k}": v for k, v in net.state_dict().items()}, tmp_path)
    theirs, info = diffusers.UNet2DModel.from_pretrained(tmp_path / "unet", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    x, _ = batch(tuple(node["shape"]))
    with torch.no_grad():
        expected = net(x, torch.tensor([0.0, 7.0, 29.0]))
        got = theirs.eval()(x, torch.tensor([0, 7, 29])).sample
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    back = read_diffusers(tmp_path)
    assert all(torch.equal(back.state[key], value) for key, value in net.state_dict().items())
    assert (back.module["steps"], back.module["schedule"]) == (30, "cosine")


@pytest.mark.parametrize(
    "sampler",
    [
        Ancestral("large", clip=(-1, 1)),
        pytest.param(Ancestral("small", steps=7), marks=SLOW),
        pytest.param(DDIM(4, 0.0, (-1, 1)), marks=SLOW),
        DDIM(5, 0.7, (-1, 1), "leading"),
    ],
    ids=["ddpm", "ddpm small, 7 steps", "ddim", "ddim eta, leading"],
)
def test_their_pipeline_draws_our_samples(sampler, tmp_path):
    """From the call that the card names, at equal noise: the folder says all the rest."""
    made, folder = exported(tmp_path, sampler, parametrization="velocity")
    kind = "DDIMPipeline" if isinstance(sampler, DDIM) else "DDPMPipeline"
    card = (folder / "README.md").read_text()
    call = card.split("manual_seed(0), ")[1].split(").images")[0]
    pipeline = getattr(diffusers, kind).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    options = eval(f"dict({call})")
    images = pipeline(2, generator=torch.Generator().manual_seed(0), output_type="np", **options).images
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        expected = made.decode(sampler.draw(made.averaged, (2, 1, 8, 8), generator)).clamp(0, 1)
    assert expected.std() > 0.02
    torch.testing.assert_close(torch.as_tensor(images).permute(0, 3, 1, 2), expected, rtol=1e-3, atol=2e-4)

    write(read_diffusers(folder), tmp_path / "back")
    back = yaml.safe_load((tmp_path / "back" / "config.yaml").read_text())
    first = yaml.safe_load((folder.parent / "config.yaml").read_text())
    assert {key: first["module"][key] for key in ("steps", "beta_max", "parametrization")}.items() <= (
        back["module"].items()
    )
    for key in ("_target_", "clip"):
        assert back["sampler"][key] == first["sampler"].get(key)
    if isinstance(sampler, Ancestral):
        assert back["sampler"]["variance"] == sampler.variance
    else:
        assert back["sampler"]["spacing"] == sampler.spacing


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sampler=dpm_solver"], "sampler._target_.*DPMSolver.*ancestral"),
        (["format=onnx"], "format.*onnx"),
        (["format=diffusers", "stage=sample"], "format.*stage=export"),
    ],
)
def test_what_the_pipelines_do_not_have_is_refused(words, says, tmp_path, capsys):
    folder = lightning_gen.save(by_hand(), tmp_path / "made")
    assert entry.main(["stage=export", "format=diffusers", f"run={folder}", *words]) == 2
    error = capsys.readouterr().err
    assert re.search(says, error) and not (folder / "diffusers").exists(), error


def test_the_demo_is_refused_with_what_to_train_in_its_place():
    with pytest.raises(ValueError, match=r"families\.EDM.*experiment=ddpm_digits"):
        check({"module": {"_target_": "lightning_gen.families.EDM"}})


@pytest.mark.parametrize(
    ("key", "node", "change"),
    [
        ("sampler.t_end", "sampler", {"t_end": 0.01}),
        ("sampler.clip", "sampler", {"clip": [-0.5, 0.5]}),
        ("sampler.steps", "sampler", {"steps": 6}),
        ("sampler.steps", "sampler", {"steps": [1, 5]}),
        ("module.classes", "module", {"classes": 10}),
        ("module.value_range", "module", {"value_range": [0, 1]}),
        ("module.parametrization", "module", {"parametrization": "edm"}),
        ("module._target_", "module", {"_target_": "lightning_gen.families.ScoreSDE"}),
        ("net._target_", "net", {"_target_": "lightning_gen.nets.NCSNpp"}),
    ],
)
def test_another_model_is_refused_by_its_key(key, node, change, tmp_path):
    module = {"_target_": "lightning_gen.families.DDPM", "value_range": [-1, 1]}
    config = {"net": UNET | SHAPES["square"], "module": module, "sampler": {"_target_": "lightning_gen.samplers.DDIM"}}
    config[node] |= change
    with pytest.raises(ValueError, match=f"^{key} is .*diffusers"):
        write_diffusers(config, {}, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_index_names_what_pipelines_load_and_load_says_how_it_is_read(tmp_path):
    _, folder = exported(tmp_path)
    with pytest.raises(FileNotFoundError, match="folder of diffusers.*lightning_gen.convert"):
        lightning_gen.load(folder)
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "DDPMPipeline" and index["unet"] == ["diffusers", "UNet2DModel"]
    assert index["scheduler"] == ["diffusers", "DDPMScheduler"]

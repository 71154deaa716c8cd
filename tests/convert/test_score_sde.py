"""Checkpoints of score_sde_pytorch: names and shapes as published, outputs of an independent functional network."""

import zipfile

import numpy as np
import pytest
import torch

import lightning_gen
from lightning_gen.convert import read_score_sde, write
from lightning_gen.convert.score_sde import network_arguments, targets
from lightning_gen.nets import NCSNpp

from .reference import Record, Settings, averaged, checkpoint, forward, shapes

TINY = Settings(nf=8, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(4,), image_size=8, num_channels=1)
VP = {"embedding_type": "positional", "centered": True, "scale_by_sigma": False}
DDPMPP = VP | {"fir": False, "progressive_input": "none"}
PUBLISHED = {
    "ncsnpp": Settings(),
    "ncsnpp-deep": Settings(num_res_blocks=8),
    "ddpmpp": Settings(**DDPMPP),
    "ddpmpp-deep": Settings(**DDPMPP, num_res_blocks=8),
    "ncsnpp-vp": Settings(**VP),
}
SMALL = {
    "ve": TINY,
    "ve-levels": TINY._replace(ch_mult=(1, 2, 2), num_res_blocks=2, attn_resolutions=(4, 2), num_channels=3),
    "ve-skip": TINY._replace(progressive="output_skip", ch_mult=(1, 1, 2), attn_resolutions=(8, 4)),
    "ve-one-level": TINY._replace(ch_mult=(1,), attn_resolutions=(8,)),
    "ve-no-fir": TINY._replace(fir=False),
    "vp": TINY._replace(**DDPMPP),
    "vp-deep": TINY._replace(**DDPMPP, ch_mult=(2, 1, 3), num_res_blocks=3, attn_resolutions=(4,)),
    "vp-fir": TINY._replace(**VP),
}


def saved(tmp_path, config, **changes):
    """The file of a checkpoint, and what is in it."""
    found = checkpoint(config) | changes
    torch.save(found, tmp_path / "checkpoint_7.pth")
    return tmp_path / "checkpoint_7.pth", found


def loaded(tmp_path, config, **options):
    """The module that lightning_gen.load makes of an import, and what was in the file."""
    file, found = saved(tmp_path, config)
    write(read_score_sde(file, size=config.image_size, **options), tmp_path / "there")
    return lightning_gen.load(tmp_path / "there"), found


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_tensor_of_a_published_configuration_has_one_place_of_its_shape(name):
    config = PUBLISHED[name]
    theirs = shapes(config)
    arguments = network_arguments({n: torch.Size(shape) for n, shape in theirs.items()}, 32)
    with torch.device("meta"):
        net = NCSNpp(**arguments)
    ours, where = net.state_dict(), targets(arguments)
    used = {n: target for n, target in where.items() if target.name in ours}
    assert list(used) == list(theirs)  # in their order, which the averages follow
    assert all(target.part(ours[target.name]).shape == theirs[n] for n, target in used.items())
    assert len(set(used.values())) == len(used)
    assert {target.name for target in used.values()} == set(ours)
    counted = sum(torch.Size(shape).numel() for shape in theirs.values())
    assert counted == sum(value.numel() for value in ours.values())


RAW = ("ve", "vp")


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        *((name, "ema") for name in SMALL),
        *(pytest.param(name, "raw", marks=() if name in RAW else pytest.mark.slow) for name in SMALL),
    ],
)
def test_the_score_is_that_of_the_authors_network(tmp_path, name, weights):
    """Their get_score_fn: F / sigma told sigma for VE, -F / sigma told 999 t for VP and sub-VP, written out here."""
    config = SMALL[name]
    sde = name.split("-")[0]
    module, found = loaded(tmp_path, config, sde=sde, weights=weights)
    raw = {n.removeprefix("module."): value for n, value in found["model"].items()}
    state = {n: value.double() for n, value in (raw if weights == "raw" else averaged(found)).items()}
    g = torch.Generator().manual_seed(1)
    shape = (3, config.num_channels, config.image_size, config.image_size)
    x = torch.randn(shape, generator=g, dtype=torch.float64)
    t = torch.tensor([0.05, 0.4, 0.9], dtype=torch.float64)
    if sde == "ve":
        sigma = 0.01 * 5000**t
        expected = forward(Record(state), config, x, sigma)
    else:
        alpha = torch.exp(-0.25 * t**2 * 19.9 - 0.05 * t)
        sigma = (1 - alpha**2).sqrt()
        expected = -forward(Record(state), config, x, 999 * t) / sigma.reshape(3, 1, 1, 1)
    with torch.no_grad():
        got = module.double().averaged.score(x, t)
    assert expected.std() > 1e-3
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10)


def test_subvp_divides_by_its_own_sigma(tmp_path):
    module, found = loaded(tmp_path, SMALL["vp"], sde="subvp")
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.1, 0.6], dtype=torch.float64)
    sigma = 1 - torch.exp(-0.5 * t**2 * 19.9 - 0.1 * t)
    with torch.no_grad():
        output = forward(Record(averaged(found)), SMALL["vp"], x, (999 * t).float())
        torch.testing.assert_close(
            module.averaged.score(x, t), -output / sigma.float().reshape(2, 1, 1, 1), rtol=1e-4, atol=1e-4
        )


def test_a_flat_file_without_a_prefix_is_raw(tmp_path):
    from safetensors.torch import save_file

    flat = {name: value for name, value in checkpoint(TINY, prefix="")["model"].items()}
    save_file(flat, tmp_path / "flat.safetensors")
    read = read_score_sde(tmp_path / "flat.safetensors", weights="raw", size=8)
    assert torch.equal(read.state["first.weight"], flat["all_modules.3.weight"])
    with pytest.raises(ValueError, match="averaged weights.*raw"):
        read_score_sde(tmp_path / "flat.safetensors", size=8)


def test_the_noise_levels_are_read_off_the_file(tmp_path):
    found = checkpoint(TINY)
    found["model"]["module.sigmas"] = torch.linspace(3.0, -4.0, 10).exp()
    torch.save(found, tmp_path / "c.pth")
    module = read_score_sde(tmp_path / "c.pth", size=8).module
    assert module["sigma_max"] == pytest.approx(20.0855, rel=1e-5)
    assert module["sigma_min"] == pytest.approx(0.0183156, rel=1e-5)


def of_numpy_1(source, target):
    """The checkpoint as NumPy 1 pickles it: the scalar's function lies in numpy.core."""
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, "w") as written:
        for part in read.infolist():
            written.writestr(part, read.read(part).replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray"))
    return target


@pytest.mark.parametrize("numpy_1", [False, True], ids=["numpy 2", "numpy 1"])
def test_a_learning_rate_of_numpy_in_the_optimizers_state_is_read(tmp_path, numpy_1):
    """Their training writes lr * np.minimum(step / warmup, 1.0) into the optimizer: np.float64."""
    group = {"lr": 2e-4 * np.minimum(7 / 5000, 1.0), "betas": (0.9, 0.999), "params": [0]}
    file, found = saved(tmp_path, TINY, optimizer={"state": {}, "param_groups": [group]})
    assert b"numpy" in zipfile.ZipFile(file).read("checkpoint_7/data.pkl")
    file = of_numpy_1(file, tmp_path / "old.pth") if numpy_1 else file
    read = read_score_sde(file, size=8, weights="raw")
    assert torch.equal(read.state["first.weight"], found["model"]["module.all_modules.3.weight"])


@pytest.mark.parametrize("combine", [8, 16], ids=["sum", "cat"])
def test_an_input_skip_is_said_not_to_be_built(combine):
    """Their Combine: a 1x1 convolution of the shrunk input, added to a level's output or concatenated with it."""
    theirs = {name: torch.Size(shape) for name, shape in shapes(TINY._replace(progressive_input="none")).items()}
    after = max(int(name.split(".")[1]) for name in theirs) + 1
    theirs |= {f"all_modules.{after}.Conv_0.weight": torch.Size([combine, 1, 1, 1])}
    with pytest.raises(ValueError, match="input_skip.*not built"):
        network_arguments(theirs, 8)


def spoil(found, what):
    """A checkpoint with one fault."""
    model, shadow = found["model"], found["ema"]["shadow_params"]
    some = "module.all_modules.4.Conv_0.weight"
    match what:
        case "foreign":
            model["module.all_modules.4.Conv_7.weight"] = torch.zeros(3)
        case "foreign top":
            model["module.logits"] = torch.zeros(3)
        case "missing":
            del model["module.all_modules.4.Conv_1.bias"]
        case "misshaped":
            model[some] = torch.zeros(8, 8, 5, 5)
        case "not finite":
            shadow[4][0] = float("nan")
        case "short average":
            shadow.pop()
        case "swapped average":
            shadow[0], shadow[1] = shadow[1], shadow[0]
        case "no sigmas":
            del model["module.sigmas"]
        case "another network":
            for name in [name for name in model if "Conv_2" in name]:
                del model[name]
    return found


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("foreign", r"all_modules.4.Conv_7.weight.*\(1 "),
        ("foreign top", "logits.*all_modules"),
        ("missing", r"all_modules.4.Conv_1.bias.*\(1 "),
        ("misshaped", r"Conv_0.weight.*\(8, 8, 5, 5\).*\(8, 8, 3, 3\)"),
        ("not finite", "not finite"),
        ("short average", r"\d+ averaged.*\d+ parameters"),
        ("swapped average", r"all_modules.1.weight.*\(32,\).*\(32, 16\)"),
        ("no sigmas", "sigmas"),
        ("another network", "NCSN|all_modules"),
    ],
)
def test_a_wrong_checkpoint_is_refused_in_one_sentence(tmp_path, what, says):
    weights = "raw" if what == "misshaped" else "ema"
    torch.save(spoil(checkpoint(TINY), what), tmp_path / "c.pth")
    with pytest.raises(ValueError, match=says) as caught:
        read_score_sde(tmp_path / "c.pth", weights=weights, size=8)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "sde", "says"),
    [
        ("ve", "vp", "sde.*vp.*ve"),
        ("vp", "ve", "sde.*ve.*vp or subvp.*discrete VE.*not supported"),
        ("vp", None, "sde.*None.*vp or subvp.*discrete VE.*not supported"),
    ],
)
def test_an_sde_that_does_not_fit_the_network_is_refused(tmp_path, name, sde, says):
    file, _ = saved(tmp_path, SMALL[name])
    with pytest.raises(ValueError, match=says):
        read_score_sde(file, sde, size=8)

"""Folders of diffusers: equal outputs at random weights, its scheduler's chain, a sentence for what does not fit."""

import json

import pytest
import torch

import lightning_gen
from lightning_gen.convert import read_diffusers, write
from lightning_gen.convert.diffusers import HO, targets

from ..nets.test_unet import batch, spread

diffusers = pytest.importorskip("diffusers", reason="the test extra installs diffusers")

PUBLISHED = {  # google/ddpm-cifar10-32, but for its size
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "downsample_padding": 0,
    "norm_eps": 1e-6,
    "attention_head_dim": None,
}
SHAPES = {
    "cifar": ((3, 32, 32), [32, 64, 64, 64], 2, [1], 32),
    "grey": ((1, 16, 16), [16, 32, 32], 1, [0, 2], 8),
    "wide": ((2, 16, 8), [8, 24], 3, [1], 4),
}


def theirs(shape=(1, 8, 8), widths=(8, 16), blocks=1, attends=(1,), groups=4, **changes):
    """A small UNet2DModel of DDPM's kind, with random weights."""
    levels = range(len(widths))
    net = diffusers.UNet2DModel(
        sample_size=shape[1:],
        in_channels=shape[0],
        out_channels=shape[0],
        block_out_channels=widths,
        layers_per_block=blocks,
        down_block_types=["AttnDownBlock2D" if level in attends else "DownBlock2D" for level in levels],
        up_block_types=["AttnUpBlock2D" if level in attends else "UpBlock2D" for level in reversed(levels)],
        norm_num_groups=groups,
        **PUBLISHED | changes,
    )
    return spread(net).eval()


def renamed(state):
    """The names of attention before diffusers 0.18."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, before in old.items():
        state = {name.replace(f".{new}.", f".{before}."): value for name, value in state.items()}
    return state


@pytest.mark.parametrize("layout", ["safetensors", "bin", "pipeline"])
@pytest.mark.parametrize("name", SHAPES)
def test_the_output_equals_that_of_diffusers(tmp_path, name, layout):
    net, source = theirs(*SHAPES[name]), tmp_path / "source"
    if layout == "pipeline":
        scheduler = diffusers.DDPMScheduler(num_train_timesteps=50, variance_type="fixed_small", clip_sample=False)
        diffusers.DDPMPipeline(net, scheduler).save_pretrained(source)
    else:
        net.save_pretrained(source, safe_serialization=layout == "safetensors")
    imported = read_diffusers(source)
    write(imported, tmp_path / "target")
    module = lightning_gen.load(tmp_path / "target")
    x, _ = batch(SHAPES[name][0])
    index = torch.tensor([0, 7, 49])
    with torch.no_grad():
        expected = net.to(memory_format=torch.channels_last)(x, index).sample  # as our convolutions are
        got = module.model.net(x, index.float())
        # As the family calls it: the grid's t is (index + 1) / T.
        noise = module.model.noise(x, (index.double() + 1) / module.model.process.steps)
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(noise, expected, rtol=1e-5, atol=1e-5)
    if layout == "pipeline":
        assert module.model.process.steps == 50
        assert (module.sampler.variance, module.sampler.clip) == ("small", None)
    else:
        assert module.model.process.steps == 1000
        assert (module.sampler.variance, module.sampler.clip) == ("large", (-1.0, 1.0))


def test_the_old_names_of_attention_give_the_same_network(tmp_path):
    net = theirs()
    net.save_pretrained(tmp_path)
    expected = read_diffusers(tmp_path).state
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    old = renamed(net.state_dict())
    assert sum("proj_attn" in name for name in old) == 2 * 4  # one down, two up, one in the middle
    torch.save(old, tmp_path / "diffusion_pytorch_model.bin")
    got = read_diffusers(tmp_path).state
    assert all(torch.equal(got[name], value) for name, value in expected.items())
    assert len(set(targets(old).values())) == len(old)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_the_chain_is_that_of_diffusers(tmp_path, schedule, prediction):
    """One step of their scheduler from the last index, and ours of the same model, without the noise."""
    net, steps = theirs(), 20
    scheduler = diffusers.DDPMScheduler(
        num_train_timesteps=steps,
        beta_schedule=schedule,
        prediction_type=prediction,
        variance_type="fixed_large",
        beta_start=0.001,
        beta_end=0.3,
    )
    net.save_pretrained(tmp_path / "source")
    scheduler.save_pretrained(tmp_path / "source")
    write(read_diffusers(tmp_path / "source"), tmp_path / "target")
    module = lightning_gen.load(tmp_path / "target")
    x, _ = batch((1, 8, 8))
    with torch.no_grad():
        for index in (7, 1):
            generators = [torch.Generator().manual_seed(0) for _ in range(2)]
            output = net(x, torch.full((3,), index)).sample
            expected = scheduler.step(output, index, x, generator=generators[0]).prev_sample
            transition = module.sampler.plan(module.model, module.shape)[steps - 1 - index]
            got, _ = module.sampler.step(module.model, x, transition, None, generators[1])
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


REFUSED = {
    "norm_eps": 1e-5,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "downsample_padding": 1,
    "attention_head_dim": 8,
    "act_fn": "mish",
    "num_class_embeds": 10,
    "time_embedding_type": "fourier",
    "resnet_time_scale_shift": "scale_shift",
    "out_channels": 2,
    "down_block_types": ["DownBlock2D", "SkipDownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "block_out_channels": [8, 12],
    "sample_size": None,
    "center_input_sample": True,
    "_class_name": "UNet2DConditionModel",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    theirs().save_pretrained(folder)
    return folder


def changed(source, folder, name, **changes):
    """A copy of the folder with other keys in one of its files; None takes a key out."""
    folder.mkdir(exist_ok=True)
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / name).read_text()) if (folder / name).is_file() else dict(HO)
    (folder / name).write_text(json.dumps(config | changes))
    return folder


@pytest.mark.parametrize("key", REFUSED)
def test_a_network_of_another_kind_is_refused_by_its_key(source, tmp_path, key):
    folder = changed(source, tmp_path, "config.json", **{key: REFUSED[key]})
    with pytest.raises(ValueError, match=rf"^{key} (in|is missing in) \S*config.json") as caught:
        read_diffusers(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", PUBLISHED)
def test_what_the_config_does_not_say_is_what_diffusers_takes(source, tmp_path, key):
    folder = changed(source, tmp_path, "config.json")
    config = json.loads((folder / "config.json").read_text())
    del config[key]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"^{key} in \S*config.json"):
        read_diffusers(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("variance_type", "learned_range"),
        ("beta_schedule", "scaled_linear"),
        ("trained_betas", [0.1, 0.2]),
        ("thresholding", True),
        ("clip_sample_range", 2.0),
        ("rescale_betas_zero_snr", True),
    ],
)
def test_a_scheduler_of_another_kind_is_refused_by_its_key(source, tmp_path, key, value):
    folder = changed(source, tmp_path, "scheduler_config.json", **{key: value})
    with pytest.raises(ValueError, match=rf"^{key} in \S*scheduler_config.json"):
        read_diffusers(folder)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda state: state | {"conv_in.scale": torch.zeros(1)}, "conv_in.scale"),
        (lambda state: state | {"add_embedding.weight": torch.zeros(1)}, "add_embedding.weight"),
        (
            lambda state: {name: value for name, value in state.items() if name != "mid_block.resnets.1.conv2.bias"},
            "middle.1.conv2.bias",
        ),
        (lambda state: state | {"conv_in.bias": torch.zeros(9)}, r"conv_in.bias.*\(9,\).*\(8,\)"),
        (
            lambda state: state | {"mid_block.attentions.0.query.weight": torch.zeros(16, 16)},
            r"\.(query|to_q)\.weight",
        ),
    ],
    ids=["foreign", "foreign top", "missing", "misshaped", "twice"],
)
def test_a_wrong_tensor_is_refused_in_one_sentence(source, tmp_path, spoil, says):
    from safetensors.torch import load_file, save_file

    folder = changed(source, tmp_path, "config.json")
    file = folder / "diffusion_pytorch_model.safetensors"
    save_file(spoil(load_file(file)), file)
    with pytest.raises(ValueError, match=says):
        read_diffusers(folder)

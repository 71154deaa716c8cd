"""DDPM's U-Net in the layout of diffusers' UNet2DModel, as google/ddpm-cifar10-32 is published.

The folder holds config.json and diffusion_pytorch_model.safetensors or .bin, itself or in unet/, and the scheduler's
scheduler_config.json, itself or in scheduler/; without one, it is Ho et al.'s schedule. x is in [-1, 1] and t is 0 to
T - 1. https://huggingface.co/google/ddpm-cifar10-32
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from lightning_gen.convert.export import Imported
from lightning_gen.convert.files import read_json, read_tensors
from lightning_gen.convert.targets import Target, converted_state
from lightning_gen.nets import UNet

# key: diffusers' default, the values that our U-Net has, and their meaning
NETWORK = {
    "_class_name": ("UNet2DModel", ["UNet2DModel"], "the U-Net of DDPM"),
    "act_fn": ("silu", ["silu", "swish"], "of the residual blocks"),
    "add_attention": (True, [True, False], "whether the middle attends"),
    "attention_head_dim": (8, [None], "attention has one head"),
    "attn_norm_num_groups": (None, [None], "one number of groups"),
    "center_input_sample": (False, [False], "the network takes x itself"),
    "class_embed_type": (None, [None], "no labels"),
    "downsample_padding": (1, [0], "the SAME padding of TensorFlow"),
    "downsample_type": ("conv", ["conv"], "a convolution of stride 2"),
    "flip_sin_to_cos": (True, [False], "the sine comes first"),
    "freq_shift": (0, [1], "frequencies down to 1e-4"),
    "mid_block_scale_factor": (1, [1], "sums are not rescaled"),
    "mid_block_type": ("UNetMidBlock2D", ["UNetMidBlock2D"], "two residual blocks and attention"),
    "norm_eps": (1e-5, [1e-6], "TensorFlow's, with which Ho et al. trained"),
    "num_class_embeds": (None, [None], "no labels, whose last would have to stand for none"),
    "resnet_time_scale_shift": ("default", ["default"], "the time is added"),
    "time_embedding_dim": (None, [None], "four times the first width"),
    "time_embedding_type": ("positional", ["positional"], "sine and cosine"),
    "upsample_type": ("conv", ["conv"], "nearest neighbour and a convolution"),
}
SCHEDULER = {
    "beta_schedule": ("linear", ["linear", "squaredcos_cap_v2"], "the schedules of DDPM"),
    "clip_sample_range": (1.0, [1.0], "the data's range is [-1, 1]"),
    "prediction_type": ("epsilon", ["epsilon", "sample", "v_prediction"], "what a Denoiser reads"),
    "rescale_betas_zero_snr": (False, [False], "the last step keeps a signal"),
    "thresholding": (False, [False], "x_0 is clipped to its range"),
    "trained_betas": (None, [None], "the betas follow from their ends"),
    "variance_type": ("fixed_small", ["fixed_small", "fixed_large"], "the variances of DDPM"),
}
PARAMETRIZATION = {"epsilon": "noise", "sample": "clean", "v_prediction": "velocity"}
HO = {"clip_sample": True, "variance_type": "fixed_large"}  # as the published scheduler_config.json says
MIRRORED = {"DownBlock2D": "UpBlock2D", "AttnDownBlock2D": "AttnUpBlock2D"}
RESIDUAL = {"time_emb_proj": "shift", "conv_shortcut": "skip"} | {n: n for n in ("norm1", "conv1", "norm2", "conv2")}
ATTENTION = {"group_norm": "norm", "to_out.0": "out", "proj_attn": "out"}
THIRDS = {"to_q": 0, "to_k": 1, "to_v": 2, "query": 0, "key": 1, "value": 2}  # the second three: before version 0.18
OUTER = {
    "conv_in": "first",
    "time_embedding.linear_1": "embedding.first",
    "time_embedding.linear_2": "embedding.second",
    "class_embedding": "embedding.table",
    "conv_norm_out": "norm",
    "conv_out": "last",
}


def read_diffusers(folder: Path) -> Imported:
    """The folder of a UNet2DModel, or of its DDPM pipeline; ValueError where our U-Net has no such option."""
    if (folder / "config.yaml").is_file():
        raise ValueError(
            f"{folder} is a run or an export of this program, which needs no conversion: write run={folder}"
        )
    root = folder / "unet" if (folder / "unet").is_dir() else folder
    if not (root / "config.json").is_file():
        raise FileNotFoundError(f"{root / 'config.json'} does not exist: name the folder that diffusers saved")
    files = [root / f"diffusion_pytorch_model.{suffix}" for suffix in ("safetensors", "bin")]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise FileNotFoundError(f"{files[0]} does not exist, nor .bin beside it: download the weights too")
    arguments = network_arguments(read_json(root / "config.json"), root / "config.json")
    options = [folder / "scheduler" / "scheduler_config.json", root / "scheduler_config.json"]
    scheduler = next((file for file in options if file.is_file()), None)
    config = HO if scheduler is None else read_json(scheduler)
    module, sampler = module_and_sampler(config, scheduler or "scheduler_config.json")
    with torch.device("meta"):
        net = UNet(**arguments)
    tensors = read_tensors(file)
    state = converted_state(net, targets(tensors), tensors)
    node = {"_target_": "lightning_gen.nets.UNet", **arguments, "classes": None}
    return Imported(node, module, sampler, state, f"diffusers {file.name}")


def check_values(config: Mapping[str, Any], table: Mapping[str, tuple], file: Path | str) -> None:
    """ValueError for the first key whose value the table does not allow."""
    for key, (default, allowed, why) in table.items():
        value = config.get(key, default)
        if value not in allowed:
            value = repr(value) if key in config else f"absent, which is {value!r} for diffusers"
            expected = " or ".join(map(repr, allowed))
            raise ValueError(
                f"{key} in {file} is {value}, expected {expected} ({why}): such a model cannot be imported"
            )


def network_arguments(config: Mapping[str, Any], file: Path | str = "config.json") -> dict[str, Any]:
    """The arguments of our UNet; ValueError for a config of another network."""
    check_values(config, NETWORK, file)
    for key in ("block_out_channels", "sample_size", "down_block_types", "up_block_types"):
        if not config.get(key):
            raise ValueError(f"{key} is missing in {file}: add it as the model was trained")
    widths, size = config["block_out_channels"], config["sample_size"]
    down, up = list(config["down_block_types"]), list(config["up_block_types"])
    height, width = (size, size) if isinstance(size, int) else size
    channels = config.get("in_channels", 3)
    attends = [kind == "AttnDownBlock2D" for kind in down]
    mirrored = [MIRRORED.get(kind, kind) for kind in reversed(down)]
    demands = {
        "out_channels": (config.get("out_channels", 3) == channels, f"{channels} as in_channels, no learned variance"),
        "down_block_types": ({*down} <= {*MIRRORED}, "DownBlock2D and AttnDownBlock2D"),
        "add_attention": (
            config.get("add_attention", True) == any(attends),
            f"{any(attends)}, for the middle attends where a level does",
        ),
        "up_block_types": (up == mirrored, ", ".join(mirrored)),
        "block_out_channels": (not any(other % widths[0] for other in widths), f"multiples of {widths[0]}"),
    }
    for key, (holds, expected) in demands.items():
        if not holds:
            value = config.get(key, 3 if key == "out_channels" else True)
            raise ValueError(f"{key} in {file} is {value}, expected {expected}: such a model cannot be imported")
    return {
        "shape": [channels, height, width],
        "channels": widths[0],
        "multipliers": [other // widths[0] for other in widths],
        "blocks": config.get("layers_per_block", 2),
        "attention": [height // 2**level for level, attend in enumerate(attends) if attend],
        "dropout": config.get("dropout", 0.0),
        "groups": config.get("norm_num_groups", 32),
    }


def module_and_sampler(config: Mapping[str, Any], file: Path | str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The nodes module, DDPM, and sampler, DDIM of a DDIMScheduler, else Ancestral; ValueError for another process."""
    check_values(config, SCHEDULER, file)
    module = {
        "_target_": "lightning_gen.families.DDPM",
        "steps": config.get("num_train_timesteps", 1000),
        "schedule": "linear" if config.get("beta_schedule", "linear") == "linear" else "cosine",
        "beta_min": float(config.get("beta_start", 1e-4)),
        "beta_max": float(config.get("beta_end", 0.02)),
        "parametrization": PARAMETRIZATION[config.get("prediction_type", "epsilon")],
        "ema_decay": None,  # one set of weights
        "value_range": [-1.0, 1.0],
    }
    clip = {"clip": [-1.0, 1.0] if config.get("clip_sample", True) else None}
    if config.get("_class_name") == "DDIMScheduler":
        return module, {"_target_": "lightning_gen.samplers.DDIM", "spacing": spacing(config, file), **clip}
    variance = config.get("variance_type", "fixed_small").removeprefix("fixed_")
    return module, {"_target_": "lightning_gen.samplers.Ancestral", "variance": variance, **clip}


def spacing(config: Mapping[str, Any], file: Path | str) -> str:
    """The times of DDIM; ValueError for those that `grid` does not have, or that do not end at the data."""
    table = {
        "timestep_spacing": ("leading", ["leading", "trailing"], "the times of a grid"),
        "set_alpha_to_one": (True, [True], "the last step ends at the data"),
        "steps_offset": (0, [0], "the first time is the first step"),
    }
    check_values(config, table, file)
    return config.get("timestep_spacing", "leading")


def targets(names: Iterable[str]) -> dict[str, Target]:
    """The target of every tensor of a UNet2DModel whose name is known.

    All blocks of our encoder are one list: level l starts at l (blocks + 1), its resampling last. So are those of our
    decoder, from the lowest level up, at l (blocks + 2). The three projections of an attention are one matrix.
    """
    blocks = len({name.split(".")[3] for name in names if name.startswith("down_blocks.0.resnets.")})
    known = {}
    for name in names:
        stem, _, leaf = name.rpartition(".")
        target = Target(OUTER[stem]) if stem in OUTER else _inner(stem.split("."), blocks)
        if target is not None:
            known[name] = target._replace(name=f"{target.name}.{leaf}")
    return known


def _inner(parts: list[str], blocks: int) -> Target | None:
    """The target of a layer inside a level, as down_blocks.1.resnets.0.conv1; None for a name of another network."""
    path = parts[0].removesuffix("_blocks") if parts[0] != "mid_block" else "middle"
    level, parts = ("0", parts[1:]) if path == "middle" else (parts[1] if len(parts) > 1 else "", parts[2:])
    if path not in ("down", "up", "middle") or len(parts) < 3 or not (level + parts[1]).isdigit():
        return None
    kind, index, layer = parts[0], int(parts[1]), ".".join(parts[2:])
    stride = {"down": blocks + 1, "up": blocks + 2, "middle": 0}[path]
    if kind in ("downsamplers", "upsamplers"):
        index = stride - 1
    at = f"{path}.{int(level) * stride + index}"
    if kind == "attentions" and layer in THIRDS:
        return Target(f"{at}.attention.qkv", THIRDS[layer])
    known = {"attentions": ATTENTION, "resnets": RESIDUAL}.get(kind, {"conv": "conv"})
    if layer not in known:
        return None
    return Target(f"{at}{'.attention' * (kind == 'attentions')}.{known[layer]}")

"""DDPM's U-Net in the layout of pytorch-ddpm's checkpoints, ckpt.pt with net_model and ema_model.

Its constants are PyTorch's: epsilon 1e-5, padding on both sides, frequencies below 1 without the last
(nets.UNet.convention). A file does not say the images' height, nor the betas and the variance, which are the flags'
defaults: 1e-4 to 0.02, fixedlarge, noise predicted. Its sampler does not clip x_0.
https://github.com/w86763777/pytorch-ddpm
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_gen.convert.export import Imported
from lightning_gen.convert.files import read_tensors
from lightning_gen.convert.score_sde import named_tensors
from lightning_gen.convert.targets import Target, converted_state
from lightning_gen.nets import UNet

SETS = {"ema": "ema_model", "raw": "net_model"}
TABLE = "time_embedding.timembedding.0.weight"  # the sines and cosines of every time, which are not trained
OUTER = {
    "time_embedding.timembedding.1": "embedding.first",
    "time_embedding.timembedding.3": "embedding.second",
    "head": "first",
    "tail.0": "norm",
    "tail.2": "last",
}
SIDES = {"downblocks": "down", "middleblocks": "middle", "upblocks": "up"}
LAYERS = {
    "block1.0": "norm1",
    "block1.2": "conv1",
    "temb_proj.1": "shift",
    "block2.0": "norm2",
    "block2.3": "conv2",
    "shortcut": "skip",
    "attn.group_norm": "attention.norm",
    "attn.proj": "attention.out",
    "main": "conv",
}
THIRDS = {"attn.proj_q": 0, "attn.proj_k": 1, "attn.proj_v": 2}


def read_pytorch_ddpm(
    file: Path, weights: Literal["ema", "raw"] = "ema", size: int = 32, content: Mapping[str, Any] | None = None
) -> Imported:
    """A checkpoint of a network for images of size x size pixels; ValueError where it does not fit.

    Args:
        file: ckpt.pt.
        weights: ema for the averaged weights, raw for the last ones.
        size: height and width, pixels.
        content: of the file, where it has been read.
    """
    content = read_tensors(file) if content is None else content
    found = content.get(SETS[weights])
    if not isinstance(found, Mapping):
        raise ValueError(f"{file} has no {SETS[weights]}, the {weights} weights: take the whole file")
    tensors = named_tensors(found, file)
    arguments = network_arguments(tensors, size)
    steps = len(tensors[TABLE])
    tensors = {name: laid_out(name, value) for name, value in tensors.items() if name != TABLE}
    with torch.device("meta"):
        net = UNet(**arguments)
    state = converted_state(net, targets(tensors), tensors)
    node = {"_target_": "lightning_gen.nets.UNet", **arguments, "dropout": 0.1, "classes": None}
    module = {
        "_target_": "lightning_gen.families.DDPM",
        "steps": steps,
        "schedule": "linear",
        "beta_min": 1e-4,
        "beta_max": 0.02,
        "parametrization": "noise",
        "ema_decay": 0.9999 if weights == "ema" else None,
        "value_range": [-1.0, 1.0],
    }
    sampler = {"_target_": "lightning_gen.samplers.Ancestral", "variance": "large", "clip": None}
    step = f", step {content['step']}" if isinstance(content.get("step"), int) else ""
    return Imported(node, module, sampler, state, f"pytorch-ddpm {file.name}, {weights}{step}")


def laid_out(name: str, value: Tensor) -> Tensor:
    """A tensor as our layers have it: 1x1 convolutions of the attention as matrices, all sines before all cosines."""
    if ".attn.proj" in name and value.ndim == 4:
        return value.flatten(1)
    if name == "time_embedding.timembedding.1.weight":
        return torch.cat([value[:, ::2], value[:, 1::2]], 1)
    return value


def network_arguments(tensors: Mapping[str, Tensor], size: int) -> dict[str, Any]:
    """The arguments of our UNet by names and shapes, which `converted_state` checks; ValueError for other networks."""
    down = sorted({int(m[1]) for name in tensors if (m := re.match(r"downblocks\.(\d+)\.", name))})
    try:
        channels, colours = tensors["head.weight"].shape[:2]
        waves = tensors[TABLE].shape[1]
        levels: list[list[int]] = [[]]
        for number in down:
            if f"downblocks.{number}.block1.2.weight" in tensors:
                levels[-1].append(number)
            else:  # the strided convolution between two levels
                levels.append([])
        widths = [len(tensors[f"downblocks.{row[0]}.block1.2.weight"]) for row in levels]
    except (KeyError, IndexError, ValueError):
        raise ValueError("the tensors are not those of pytorch-ddpm's U-Net: import another file") from None
    if waves != channels:
        raise ValueError(f"{TABLE} has {waves} waves, expected {channels}, the channels of head: import another file")
    attends = [f"downblocks.{row[0]}.attn.proj.weight" in tensors for row in levels]
    return {
        "shape": [colours, size, size],
        "channels": channels,
        "multipliers": [width // channels for width in widths],
        "blocks": len(levels[0]),
        "attention": [size >> level for level, attend in enumerate(attends) if attend],
        "convention": "pytorch",
    }


def targets(names: Mapping[str, Any]) -> dict[str, Target]:
    """The target of every tensor whose name is known; blocks and resampling are one list there as here."""
    known = {}
    for name in names:
        stem, _, leaf = name.rpartition(".")
        side, _, rest = stem.partition(".")
        number, _, layer = rest.partition(".")
        if stem in OUTER:
            known[name] = Target(f"{OUTER[stem]}.{leaf}")
        elif side in SIDES and layer in THIRDS:
            known[name] = Target(f"{SIDES[side]}.{number}.attention.qkv.{leaf}", THIRDS[layer])
        elif side in SIDES and layer in LAYERS:
            known[name] = Target(f"{SIDES[side]}.{number}.{LAYERS[layer]}.{leaf}")
    return known

"""DDPM++ and NCSN++ in the layout of EDM's SongUNet, from the tensors of its pickle.

EDM publishes pickles that bring their code with them, which is not run here (files.py says how to take the tensors
out). The file holds ema, a state dict (names model.enc.*, or without model.), or is one; and precond, the class around
the network, without which it is EDM's:

- EDMPrecond: c_noise = ln(sigma) / 4; sigma from 0.002 to 80.
- VPPrecond: c_noise = 999 t and the betas 0.1 and 20, which is ScoreSDE's vp.
- VEPrecond: c_noise = ln(sigma / 2) for x in [-1, 1], which for x in [0, 1] is ln sigma: ScoreSDE's ve, recentred, with
  sigma from 0.01 to 50.

map_augment, the layer that is told how an image was augmented, has no bias and gets zeros in sampling: it is left out.
EDM (Karras et al., 2022), https://arxiv.org/abs/2206.00364, https://github.com/NVlabs/edm
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_gen.convert.export import Imported
from lightning_gen.convert.files import read_tensors
from lightning_gen.convert.score_sde import MODULES, SAMPLERS, named_tensors
from lightning_gen.convert.targets import Target, converted_state
from lightning_gen.nets import NCSNpp

SCORE_SDE = {"_target_": "lightning_gen.families.ScoreSDE", "ema_decay": None}  # one set of weights
EDM = {
    "_target_": "lightning_gen.families.EDM",
    "sigma_data": 0.5,
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "ema_decay": None,
    "value_range": [-1.0, 1.0],
}
HEUN = {"_target_": "lightning_gen.samplers.EDMHeun", "steps": 18}
PRECONDITIONED = {  # the module's node and the sampler's
    "EDMPrecond": (EDM, HEUN),
    "VPPrecond": ({**MODULES["vp"], **SCORE_SDE, "sde": "vp", "beta_min": 0.1, "beta_max": 20.0}, SAMPLERS["vp"]),
    "VEPrecond": ({**MODULES["ve"], **SCORE_SDE, "sde": "ve", "sigma_min": 0.01, "sigma_max": 50.0}, SAMPLERS["ve"]),
}
BY_SDE = {None: "EDMPrecond", "vp": "VPPrecond", "ve": "VEPrecond"}
BLOCK = {
    "norm0": "norm1",
    "conv0": "conv1",
    "affine": "shift",
    "norm1": "norm2",
    "conv1": "conv2",
    "skip": "skip",
    "norm2": "attention.norm",
    "qkv": "attention.qkv",
    "proj": "attention.out",
}
OUTER = {"map_layer0": "embedding.first", "map_layer1": "embedding.second"}
OTHERS = {  # a part of a name: the network that it is of
    "map_label.": "with labels, which it adds before the layers of the time, ours after them",
    "out_norm.": "of class DhariwalUNet (ADM), whose blocks scale by the time",
    "_aux_skip.": "with encoder_type skip (input_skip)",
}


def is_edm(content: Mapping[str, Any]) -> bool:
    """Whether a file's content has the names of EDM's networks."""
    return any(name.endswith("map_layer0.weight") for name in _state(content))


def _state(content: Mapping[str, Any]) -> Mapping[str, Any]:
    return content["ema"] if isinstance(content.get("ema"), Mapping) else content


def read_edm(file: Path, sde: Literal["vp", "ve"] | None = None, content: Mapping[str, Any] | None = None) -> Imported:
    """The network of a file with EDM's tensors; ValueError where ours has no such option.

    Args:
        file: .pt or .safetensors, with tensors alone.
        sde: vp for VPPrecond, ve for VEPrecond, null for what the file says as precond, else EDMPrecond.
        content: of the file, where it has been read.
    """
    content = read_tensors(file) if content is None else content
    asked = BY_SDE.get(sde, sde)
    kind = content.get("precond", asked)
    if sde is not None and kind != asked:
        raise ValueError(f"--sde is {sde}, and {file} says that its precond is {kind}: leave --sde out")
    if kind not in PRECONDITIONED:
        raise ValueError(f"precond is {kind}, expected {', '.join(PRECONDITIONED)}: such a model is not built here")
    tensors = named_tensors(_state(content), file)
    tensors = {name.removeprefix("model."): value for name, value in tensors.items()}
    for part, other in OTHERS.items():
        if name := next((name for name in tensors if part in name), None):
            raise ValueError(f"{file} holds {name}, of a network {other}: it is not built here; import another file")
    arguments = network_arguments(tensors)
    arguments["recentre"] = kind == "VEPrecond"
    with torch.device("meta"):
        net = NCSNpp(**arguments)
    used = {name: laid_out(name, value) for name, value in tensors.items() if not _unused(name)}
    state = converted_state(net, targets(used, arguments), used)
    module, sampler = PRECONDITIONED[kind]
    node = {"_target_": "lightning_gen.nets.NCSNpp", **arguments, "dropout": 0.1, "classes": None}
    return Imported(node, module, sampler, state, f"edm {file.name}, {kind}")


def _unused(name: str) -> bool:
    """Whether a tensor is no weight of the network as it samples: fixed filters, and what augmentation says."""
    return name.endswith("resample_filter") or name == "map_augment.weight"


def laid_out(name: str, value: Tensor) -> Tensor:
    """A tensor as our layers have it: 1x1 convolutions of the attention as matrices, q, k and v one after another."""
    layer = name.split(".")[-2]
    if layer in ("qkv", "proj") and value.ndim == 4:
        value = value.flatten(1)
    if layer == "qkv" and len(value) % 3 == 0:
        value = value.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1)
    return value


def network_arguments(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of our NCSNpp by names and shapes, which `converted_state` checks; ValueError for others."""
    sizes = sorted({int(m[1]) for name in tensors if (m := re.match(r"enc\.(\d+)x\1_", name))}, reverse=True)
    try:
        channels, colours = tensors[f"enc.{sizes[0]}x{sizes[0]}_conv.weight"].shape[:2]
        blocks = len({name.split(".")[1] for name in tensors if name.startswith(f"enc.{sizes[0]}x{sizes[0]}_block")})
        widths = [len(tensors[f"enc.{size}x{size}_block0.conv0.weight"]) for size in sizes]
    except (KeyError, IndexError, ValueError, TypeError):
        raise ValueError("the tensors are not those of EDM's SongUNet: import another file") from None
    taps = next((value for name, value in tensors.items() if name.endswith("resample_filter")), torch.ones(1, 1, 2, 2))
    taps = taps.float().sum((0, 1, 2))
    heads = sum(name.endswith("_aux_conv.weight") for name in tensors)
    return {
        "shape": [colours, sizes[0], sizes[0]],
        "channels": channels,
        "multipliers": [width // channels for width in widths],
        "blocks": blocks,
        "attention": [size for size in sizes if f"enc.{size}x{size}_block0.qkv.weight" in tensors],
        "embedding": "fourier" if "map_noise.freqs" in tensors else "positional",
        "block": "biggan",
        "rescale": True,
        "fir": None if len(taps) == 2 else [round(float(tap / taps[0]), 6) for tap in taps],
        "progressive": "output_skip" if heads > 1 else "none",
        "progressive_input": "residual" if any("_aux_residual." in name for name in tensors) else "none",
    }


def targets(names: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Target]:
    """The target of every tensor whose name is known."""
    size, levels = arguments["shape"][1], len(arguments["multipliers"])
    level_of = {f"{size >> level}x{size >> level}": level for level in range(levels)}
    several = arguments["progressive"] == "output_skip"
    known = {}
    for name in names:
        stem, _, leaf = name.rpartition(".")
        path, _, layer = stem.removeprefix("enc.").removeprefix("dec.").partition(".")
        square, _, part = path.partition("_")
        if name == "map_noise.freqs":
            known[name] = Target("embedding.frequencies")
        elif stem in OUTER:
            known[name] = Target(f"{OUTER[stem]}.{leaf}")
        elif square in level_of:
            at = _place(name[:3], part, level_of[square], levels - 1 - level_of[square], several)
            if at is not None and (layer in BLOCK or not layer):
                known[name] = Target(".".join(filter(None, (at, BLOCK.get(layer, ""), leaf))))
    return known


def _place(side: str, part: str, level: int, step: int, several: bool) -> str | None:
    """The name of our layer for a part of a level, which the decoder comes to in its step; None for another one."""
    if part.startswith("block") and part[5:].isdigit():
        return f"down.{level}.{part[5:]}" if side == "enc" else f"up.{step}.{part[5:]}"
    head = step if several else 0
    places = {
        "enc": {"conv": "first", "down": f"shrink.{level - 1}", "aux_residual": f"inputs.{level - 1}.conv"},
        "dec": {
            "in0": "middle.0",
            "in1": "middle.1",
            "up": f"grow.{step - 1}",
            "aux_norm": f"heads.{head}.0",
            "aux_conv": f"heads.{head}.2",
        },
    }
    return places.get(side, {}).get(part)

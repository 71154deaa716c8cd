"""DDPM's U-Net as the folder that diffusers' DDPMPipeline.from_pretrained or DDIMPipeline.from_pretrained loads.

model_index.json, unet/ and scheduler/; the names and options are those that `read_diffusers` reads. diffusers itself is
not needed.
"""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_gen.convert.diffusers import (
    ATTENTION,
    MIRRORED,
    NETWORK,
    OUTER,
    PARAMETRIZATION,
    RESIDUAL,
    SCHEDULER,
    THIRDS,
)
from lightning_gen.nets import UNet
from lightning_gen.results.card import write_card
from lightning_gen.results.store import write_atomically
from lightning_gen.samplers import DDIM, Ancestral

VERSION = "0.35.0"  # of diffusers, whose names these are
SCHEDULERS = {"Ancestral": "DDPM", "DDIM": "DDIM"}
DDPM = {"steps": 1000, "schedule": "linear", "beta_min": 1e-4, "beta_max": 0.02, "parametrization": "noise"}
USE = """## Use

```python
import torch
from diffusers import {pipeline}

pipeline = {pipeline}.from_pretrained("{folder}")
images = pipeline(batch_size=16, generator=torch.Generator().manual_seed(0), {options}).images
```

`python -m lightning_gen.convert {folder} TARGET` reads it back.
"""


def write_diffusers(config: Mapping[str, Any], weights: Mapping[str, Tensor], folder: Path) -> list[Path]:
    """Write the folder, its model_index.json last; the files. ValueError for a model that diffusers has no place for.

    Args:
        config: of the run, with the sampler that becomes the scheduler.
        weights: model.net.*, the averaged ones.
        folder: is made anew.
    """
    check(config)
    kind = SCHEDULERS[_class(config["sampler"])]
    prefix = "model.net."
    net = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    texts = {
        "unet/config.json": network_config(config["net"]),
        "scheduler/scheduler_config.json": scheduler_config(config),
        "model_index.json": {
            "_class_name": f"{kind}Pipeline",
            "_diffusers_version": VERSION,
            "scheduler": ["diffusers", f"{kind}Scheduler"],
            "unet": ["diffusers", "UNet2DModel"],
        },
    }
    from safetensors.torch import save

    files = [folder / "unet" / "diffusion_pytorch_model.safetensors"]
    write_atomically(files[0], save(tensors(net, arguments(config["net"])["blocks"]), {"format": "pt"}))
    for name, content in texts.items():
        files.append(write_atomically(folder / name, (json.dumps(content, indent=2) + "\n").encode()))
    use = USE.replace("{pipeline}", f"{kind}Pipeline").replace("{options}", call_options(config))
    files.append(write_card(folder, config, net, "for diffusers", use=use, library="diffusers"))
    return sorted(files)


def check(config: Mapping[str, Any]) -> None:
    """ValueError for a family, network, sampler or range that the pipelines do not have."""
    net, module, sampler = config.get("net") or {}, DDPM | (config.get("module") or {}), config.get("sampler") or {}
    ddim, value_range = _class(sampler) == "DDIM", module.get("value_range")
    sampler = {"steps": 50 if ddim else None, "spacing": "trailing", "t_end": None, **sampler}
    steps, total = sampler["steps"], module["steps"]
    number = steps is None or isinstance(steps, int)
    demands = {
        "module._target_": (
            _is(module, "families", "DDPM"),
            "lightning_gen.families.DDPM: train one, as experiment=ddpm_digits",
        ),
        "net._target_": (_is(net, "nets", "UNet"), "lightning_gen.nets.UNet"),
        "net.convention": (net.get("convention", "tensorflow") == "tensorflow", "tensorflow, as DDPM's pipelines"),
        "module.classes": (module.get("classes") is None, "null: pipelines give no labels"),
        "module.autoencoder": (module.get("autoencoder") is None, "null: pipelines draw pixels"),
        "module.value_range": (list(value_range or ()) == [-1, 1], "[-1, 1], from which pipelines make pixels"),
        "module.parametrization": (module["parametrization"] in PARAMETRIZATION.values(), "noise, clean or velocity"),
        "sampler._target_": (
            _is(sampler, "samplers", *SCHEDULERS),
            "Ancestral or DDIM: write sampler=ancestral",
        ),
        # A step of their DDIM goes back by total // steps, whatever the next time is.
        "sampler.steps": (
            number and not (ddim and steps and total % steps),
            f"a divisor of module.steps, {total}, or null" if ddim else "a number or null",
        ),
        "sampler.clip": (sampler.get("clip") in (None, [-1, 1], (-1, 1)), "[-1, 1], as pipelines clip, or null"),
        "sampler.t_end": (sampler["t_end"] is None, "null: schedulers end at 0"),
        "sampler.spacing": (sampler["spacing"] in ("leading", "trailing"), "leading or trailing"),
    }
    nodes = {"net": net, "module": module, "sampler": sampler}
    for key, (holds, expected) in demands.items():
        if not holds:
            node, _, name = key.partition(".")
            raise ValueError(f"{key} is {nodes[node].get(name)}, for format=diffusers expected {expected}")


def _class(node: Mapping[str, Any]) -> str:
    return str(node.get("_target_")).rpartition(".")[2]


def _is(node: Mapping[str, Any], room: str, *names: str) -> bool:
    """Whether a node builds one of these classes of ours."""
    return str(node.get("_target_")).startswith(f"lightning_gen.{room}.") and _class(node) in names


def arguments(node: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a node of UNet, with their defaults."""
    defaults = {name: p.default for name, p in inspect.signature(UNet).parameters.items()}
    given = defaults | {key: value for key, value in node.items() if key[0] != "_"}
    return given | ({"attention": [given["shape"][1] // 2]} if given["attention"] is None else {})


def network_config(node: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of a UNet2DModel."""
    given = arguments(node)
    channels, height, width = given["shape"]
    attends = [height // 2**level in given["attention"] for level in range(len(given["multipliers"]))]
    down = ["AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends]
    return {key: allowed[0] for key, (_, allowed, _) in NETWORK.items()} | {
        "_diffusers_version": VERSION,
        "add_attention": any(attends),
        "sample_size": height if height == width else [height, width],
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": [given["channels"] * multiplier for multiplier in given["multipliers"]],
        "down_block_types": down,
        "up_block_types": [MIRRORED[kind] for kind in reversed(down)],
        "layers_per_block": given["blocks"],
        "dropout": given["dropout"],
        "norm_num_groups": given["groups"],
    }


def scheduler_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """scheduler_config.json of the process and the sampler."""
    module, sampler = DDPM | dict(config["module"]), config["sampler"]
    kind = SCHEDULERS[_class(sampler)]
    predictions = {ours: theirs for theirs, ours in PARAMETRIZATION.items()}
    options = {key: allowed[0] for key, (_, allowed, _) in SCHEDULER.items()} | {
        "_class_name": f"{kind}Scheduler",
        "_diffusers_version": VERSION,
        "num_train_timesteps": module["steps"],
        "beta_schedule": "linear" if module["schedule"] == "linear" else "squaredcos_cap_v2",
        "beta_start": module["beta_min"],
        "beta_end": module["beta_max"],
        "prediction_type": predictions[module["parametrization"]],
        "clip_sample": sampler.get("clip") is not None,
        "timestep_spacing": sampler.get("spacing", "trailing"),
        "steps_offset": 0,
    }
    if kind == "DDPM":
        return options | {"variance_type": f"fixed_{sampler.get('variance', 'large')}"}
    return {key: value for key, value in options.items() if key != "variance_type"} | {"set_alpha_to_one": True}


def call_options(config: Mapping[str, Any]) -> str:
    """The arguments of the pipeline's call with which it samples as our sampler does."""
    sampler, total = config["sampler"], (DDPM | dict(config["module"]))["steps"]
    made = (DDIM if _class(sampler) == "DDIM" else Ancestral)(**{k: v for k, v in sampler.items() if k[0] != "_"})
    options = {"num_inference_steps": made.steps or total}
    if isinstance(made, DDIM):
        options |= {"eta": made.eta, "use_clipped_model_output": True}
    return ", ".join(f"{key}={value}" for key, value in options.items())


def tensors(state: Mapping[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """The tensors of a UNet2DModel, float32, from a state dict of our U-Net: the inverse of `diffusers.targets`."""
    outer = {ours: theirs for theirs, ours in OUTER.items()}
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        stem, _, leaf = name.rpartition(".")
        if stem in outer:
            found[f"{outer[stem]}.{leaf}"] = value
        elif stem.endswith("attention.qkv"):
            at = _block(stem.split("."), blocks)
            parts = zip([key for key in THIRDS if key.startswith("to_")], value.chunk(3), strict=True)
            found |= {f"{at}.{layer}.{leaf}": part for layer, part in parts}
        else:
            found[f"{_inner(stem.split('.'), blocks)}.{leaf}"] = value
    return {name: value.to(torch.float32).contiguous() for name, value in found.items()}


def _block(parts: list[str], blocks: int) -> str:
    """The name of a residual block, attention or resampling, as down_blocks.1.resnets.0, of down.4.norm1."""
    path, number, attention = parts[0], int(parts[1]), "attention" in parts
    kind = "attentions" if attention else "resnets"
    if path == "middle":
        return f"mid_block.{kind}.{0 if attention else number}"
    level, index = divmod(number, {"down": blocks + 1, "up": blocks + 2}[path])
    if index == {"down": blocks, "up": blocks + 1}[path]:
        return f"{path}_blocks.{level}.{path}samplers.0"
    return f"{path}_blocks.{level}.{kind}.{index}"


def _inner(parts: list[str], blocks: int) -> str:
    """The name of a layer in a block."""
    table = ATTENTION if "attention" in parts else RESIDUAL
    # The first of the names that mean one layer is today's.
    known = {ours: theirs for theirs, ours in reversed(table.items())} | {"conv": "conv"}
    return f"{_block(parts, blocks)}.{known[parts[-1]]}"

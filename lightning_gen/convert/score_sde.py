"""NCSN++ and DDPM++ in the layout of score_sde_pytorch's checkpoints, the continuous ones with BigGAN's blocks.

A .pth file holds model (names all_modules.N.*, with or without a prefix module.), ema (shadow_params, a list in the
order of the trained parameters) and step; a flat file of names is raw. How its networks are called, and the same
here:

- VE: t is log sigma; x is in [0, 1] (all published ones, config data.centered = False), and the network takes it to
  [-1, 1] (net.recentre); the score is F / sigma, which is parametrization ve, D = x + sigma F. sigma is geometric from
  the last to the first of `sigmas`.
- VP and sub-VP: t is 999 t; x is in [-1, 1]; the score is -F / sigma_t, which is parametrization noise. Their `sigmas`
  are not used, and the betas 0.1 and 20 are not in the file.

A file does not say VP, sub-VP or the discrete VE, which is not supported, nor the images' height; nor a low-pass filter
where no pyramid of the input has one: DDPM++ has none. Score SDE (Song et al., 2021), https://arxiv.org/abs/2011.13456
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_gen.convert.export import Imported
from lightning_gen.convert.files import read_tensors
from lightning_gen.convert.targets import Target, converted_state
from lightning_gen.nets import NCSNpp

SDE = Literal["vp", "subvp", "ve"]
VE = {"parametrization": "ve", "ema_decay": 0.999, "value_range": [0.0, 1.0]}
VP = {"parametrization": "noise", "ema_decay": 0.9999, "value_range": [-1.0, 1.0]}
MODULES = {"ve": VE, "vp": VP, "subvp": VP}
PREDICTOR = {"_target_": "lightning_gen.samplers.EulerMaruyama", "steps": 1000}
CORRECTOR = {
    "_target_": "lightning_gen.samplers.PredictorCorrector",
    "predictor": PREDICTOR,
    "corrections": 1,
    "snr": 0.16,
}
SAMPLERS = {"ve": CORRECTOR, "vp": PREDICTOR, "subvp": PREDICTOR}
PLAIN = {"weight": Target("weight"), "bias": Target("bias")}


def _layers(**names: str) -> dict[str, Target]:
    """Targets of their layer.weight and layer.bias, by our layers' names."""
    return {f"{a}.{leaf}": Target(f"{b}.{leaf}") for a, b in names.items() for leaf in ("weight", "bias")}


def _nin(number: int, name: str, third: int | None = None) -> dict[str, Target]:
    """Targets of a matrix (inputs, outputs) and its bias in a linear layer."""
    weight, bias = Target(f"{name}.weight", third, transposed=True), Target(f"{name}.bias", third)
    return {f"NIN_{number}.W": weight, f"NIN_{number}.b": bias}


# Targets inside a module of theirs by its kind, in the order of its parameters.
KINDS = {
    "fourier": {"W": Target("frequencies")},
    "plain": PLAIN,
    "residual": _layers(
        GroupNorm_0="norm1", Conv_0="conv1", Dense_0="shift", GroupNorm_1="norm2", Conv_1="conv2", Conv_2="skip"
    ),
    "attention": _layers(GroupNorm_0="norm")
    | _nin(0, "qkv", 0)
    | _nin(1, "qkv", 1)
    | _nin(2, "qkv", 2)
    | _nin(3, "out"),
    "filtered": {f"Conv2d_0.{leaf}": Target(f"conv.{leaf}") for leaf in PLAIN},
    "convolved": {f"Conv_0.{leaf}": Target(f"conv.{leaf}") for leaf in PLAIN},
}


def is_score_sde(content: Mapping[str, Any]) -> bool:
    """Whether a file's content has the names of score_sde_pytorch's networks."""
    model = content["model"] if isinstance(content.get("model"), Mapping) else content
    return any("all_modules." in name for name in model)


def read_score_sde(
    file: Path,
    sde: SDE | None = None,
    weights: Literal["ema", "raw"] = "ema",
    size: int = 32,
    beta_min: float = 0.1,
    beta_max: float = 20.0,
    content: Mapping[str, Any] | None = None,
) -> Imported:
    """A checkpoint of a network for images of size x size pixels; ValueError where it does not fit.

    Args:
        file: the .pth file.
        sde: the SDE that it was trained with; null for ve.
        weights: ema for the averaged weights, raw for the last ones.
        size: height and width, pixels.
        beta_min: beta(0) of vp and subvp, per unit of time.
        beta_max: beta(1) of vp and subvp, per unit of time.
        content: of the file, where it has been read.
    """
    content = read_tensors(file) if content is None else content
    nested = isinstance(content.get("model"), Mapping)
    tensors = named_tensors(content["model"] if nested else content, file)
    sigmas = tensors.pop("sigmas", None)
    arguments = network_arguments({name: value.shape for name, value in tensors.items()}, size)
    sde = checked_sde(sde, arguments["embedding"], file)
    arguments["recentre"] = sde == "ve"
    with torch.device("meta"):
        net = NCSNpp(**arguments)
    by_name = targets(arguments)
    state = converted_state(net, by_name, tensors)
    if weights == "ema":
        shadow = averaged_parameters(content.get("ema") if nested else None, by_name, state, file)
        state = converted_state(net, by_name, tensors | shadow)
    levels = noise_levels(sigmas, file) if sde == "ve" else {"beta_min": beta_min, "beta_max": beta_max}
    module = {"_target_": "lightning_gen.families.ScoreSDE", "sde": sde} | MODULES[sde] | levels
    if weights == "raw":
        module["ema_decay"] = None
    node = {"_target_": "lightning_gen.nets.NCSNpp", **arguments, "dropout": 0.1, "classes": None}
    step = f", step {content['step']}" if nested and isinstance(content.get("step"), int) else ""
    return Imported(node, module, SAMPLERS[sde], state, f"score_sde {file.name}, {weights}{step}")


def named_tensors(model: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """The tensors of a state dict by their names without the prefix module.; ValueError for other content."""
    tensors = {name.removeprefix("module."): value for name, value in model.items()}
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(f"{file} holds no state dict of tensors: name a checkpoint of weights")
    return tensors


def noise_levels(sigmas: Tensor | None, file: Path) -> dict[str, float]:
    """sigma_min and sigma_max, the ends of a decreasing list; ValueError for another one, or none."""
    if sigmas is None or sigmas.ndim != 1 or not len(sigmas) or not 0 < sigmas[-1] <= sigmas[0]:
        raise ValueError(f"{file} has no decreasing list sigmas, the noise levels of a VE: take the whole file")
    return {"sigma_min": float(f"{sigmas[-1]:.6g}"), "sigma_max": float(f"{sigmas[0]:.6g}")}


def checked_sde(sde: SDE | None, embedding: str, file: Path) -> SDE:
    """The SDE; ValueError where it does not fit the embedding of time: Fourier features of log sigma are VE's."""
    if embedding == "fourier":
        if sde not in (None, "ve"):
            raise ValueError(f"sde is {sde}, expected ve, for {file} has Fourier features of log sigma: write ve")
        return "ve"
    if sde not in ("vp", "subvp"):
        raise ValueError(
            f"sde is {sde}, expected vp or subvp, for {file} has sines of the time: write the one that it was trained "
            "with; a discrete VE, which has sines of its levels' numbers, is not supported"
        )
    return sde


def averaged_parameters(
    ema: Any, by_name: Mapping[str, Target], ours: Mapping[str, Tensor], file: Path
) -> dict[str, Tensor]:
    """The averaged parameters by their foreign names; shadow_params has them in the order of their modules."""
    shadow = ema.get("shadow_params") if isinstance(ema, Mapping) else None
    if not isinstance(shadow, list | tuple) or not all(isinstance(value, Tensor) for value in shadow):
        raise ValueError(f"{file} holds no averaged weights (ema.shadow_params): ask for the raw ones")
    trained = [
        name for name, target in by_name.items() if target.name in ours and target.name != "embedding.frequencies"
    ]
    if len(shadow) != len(trained):
        raise ValueError(
            f"{file} has {len(shadow)} averaged tensors, the network {len(trained)} parameters: ask for the raw weights"
        )
    return dict(zip(trained, shadow, strict=True))


def modules(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(kind, our module's name) of all_modules.0, .1, ... for a network of these arguments."""
    heights = [arguments["shape"][1] // 2**level for level in range(len(arguments["multipliers"]))]
    attends = [height in arguments["attention"] for height in heights]
    pyramid = ["convolved" if arguments["fir"] is None else "filtered"] * (arguments["progressive_input"] != "none")
    blocks, end = arguments["blocks"], len(heights) - 1
    if arguments["embedding"] == "fourier":
        yield "fourier", "embedding"
    yield from (("plain", "embedding.first"), ("plain", "embedding.second"), ("plain", "first"))
    for level, attend in enumerate(attends):
        for index in range(blocks):
            yield "residual", f"down.{level}.{index}"
            yield from [("attention", f"down.{level}.{index}.attention")] * attend
        if level < end:
            yield "residual", f"shrink.{level}"
            yield from ((kind, f"inputs.{level}") for kind in pyramid)
    yield from (("residual", "middle.0"), ("attention", "middle.0.attention"), ("residual", "middle.1"))
    for step, attend in enumerate(reversed(attends)):
        yield from (("residual", f"up.{step}.{index}") for index in range(blocks + 1))
        yield from [("attention", f"up.{step}.{blocks}.attention")] * attend
        if step == end or arguments["progressive"] == "output_skip":
            head = step if arguments["progressive"] == "output_skip" else 0
            yield from (("plain", f"heads.{head}.0"), ("plain", f"heads.{head}.2"))
        if step < end:
            yield "residual", f"grow.{step}"


def targets(arguments: Mapping[str, Any]) -> dict[str, Target]:
    """The target of every tensor, in the order of their parameters; a skip that our network lacks has one, too."""
    return {
        f"all_modules.{number}.{layer}": target._replace(name=f"{at}.{target.name}")
        for number, (kind, at) in enumerate(modules(arguments))
        for layer, target in KINDS[kind].items()
    }


def network_arguments(shapes: Mapping[str, torch.Size], size: int) -> dict[str, Any]:
    """The arguments of our NCSNpp by names and shapes; ValueError where they are of another kind of network.

    `converted_state` checks every name and shape against them.
    """
    ordered = shapes_by_module(shapes)
    # Of all layers only the one that adds the shrunk input to a level is a 1x1 convolution of this name.
    if any("Dense_0.weight" not in row and row.get("Conv_0.weight", ())[2:] == (1, 1) for row in ordered):
        raise ValueError(
            "the network has progressive_input input_skip, which is not built here, expected residual or none: import "
            "another file"
        )
    try:
        kinds = [_kind(row) for row in ordered]
        stem = kinds.index("conv")
        channels, colours = ordered[stem]["weight"][:2]
        resized, residual = kinds.count("resized"), kinds.count("residual")
        levels = resized // 2 + 1
        blocks = (residual - 2 - levels) // (2 * levels)
        rows = zip(kinds, ordered, strict=True)
        rest = [(kind, row) for kind, row in rows if kind in ("residual", "resized", "attention")]
        multipliers, attends = [], []
        for level in range(levels):
            row = rest.pop(0)[1]
            multipliers.append(row["Conv_1.weight"][0] // channels)
            attends.append(rest[0][0] == "attention")
            del rest[: (blocks - 1) * (1 + attends[-1]) + attends[-1] + (level < levels - 1)]
    except (ValueError, IndexError, KeyError):
        raise ValueError(
            f"the {len(ordered)} modules of all_modules are not those of an NCSN++ or DDPM++ with BigGAN's blocks: "
            "import another file"
        ) from None
    filtered = "filtered" in kinds
    return {
        "shape": [colours, size, size],
        "channels": channels,
        "multipliers": multipliers,
        "blocks": blocks,
        "attention": [size // 2**level for level in range(levels) if attends[level]],
        "embedding": "fourier" if "fourier" in kinds else "positional",
        "block": "biggan",
        "rescale": True,
        "fir": [1, 3, 3, 1] if filtered else None,
        "progressive": "output_skip" if levels > 1 and kinds.count("norm") > 1 else "none",
        "progressive_input": "residual" if filtered or "convolved" in kinds else "none",
    }


def shapes_by_module(shapes: Mapping[str, torch.Size]) -> list[dict[str, torch.Size]]:
    """The shapes of all_modules.0, .1, ..., by the names inside each; ValueError for a tensor of another name."""
    modules: dict[int, dict[str, torch.Size]] = {}
    for name, shape in shapes.items():
        head, _, rest = name.partition(".")
        number, _, layer = rest.partition(".")
        if head != "all_modules" or not number.isdigit():
            raise ValueError(
                f"tensor {name} is not one of all_modules.N.*, expected those of an NCSN++: import another file"
            )
        modules.setdefault(int(number), {})[layer] = shape
    return [modules[number] for number in sorted(modules)]


def _kind(row: Mapping[str, torch.Size]) -> str:
    """The kind of a module by its tensors; a residual block that changes size always has a convolution as its skip."""
    if "Dense_0.weight" in row:
        outputs, inputs = row["Conv_0.weight"][:2]
        return "resized" if "Conv_2.weight" in row and inputs == outputs else "residual"
    for layer, kind in (("W", "fourier"), ("NIN_3.W", "attention"), ("Conv2d_0.weight", "filtered")):
        if layer in row:
            return kind
    if "Conv_0.weight" in row:
        return "convolved"
    return {1: "norm", 2: "linear", 4: "conv"}.get(len(row.get("weight", ())), "unknown")

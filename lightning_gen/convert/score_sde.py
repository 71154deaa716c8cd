"""NCSN++ and DDPM++ in the layout of score_sde_pytorch's checkpoints, the continuous ones with BigGAN's blocks.

A .pth file holds model (names all_modules.N.*, with or without a prefix module.), ema (shadow_params, a list in the
order of the trained parameters) and step; a flat file of names is raw. How its networks are called, and what that is
here:

- VE: told log sigma of x in [0, 1] (all published ones, config data.centered = False), which the network itself takes
  to [-1, 1] (net.recentre); the score is F / sigma, which is parametrization ve, D = x + sigma F. sigma goes
  geometrically from the last to the first of `sigmas`.
- VP and sub-VP: told 999 t of x in [-1, 1]; the score is -F / sigma_t, which is parametrization noise. Their `sigmas`
  are of no use, the betas 0.1 and 20 are not in the file.

Nothing in a file tells VP from sub-VP, nor how high images are; nor a low-pass filter, where no pyramid of the input
has one: DDPM++ has none. Score SDE (Song et al., 2021), https://arxiv.org/abs/2011.13456
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_gen.convert.export import Imported
from lightning_gen.convert.files import read_tensors
from lightning_gen.convert.places import Place, fill
from lightning_gen.nets import NCSNpp

SDE = Literal["vp", "subvp", "ve"]
PLAIN = {"weight": Place("weight"), "bias": Place("bias")}


def _layers(**names: str) -> dict[str, Place]:
    """Their layer.weight and layer.bias to ours."""
    return {f"{a}.{leaf}": Place(f"{b}.{leaf}") for a, b in names.items() for leaf in ("weight", "bias")}


def _nin(number: int, name: str, third: int | None = None) -> dict[str, Place]:
    """A matrix (inputs, outputs) and its bias to a linear layer."""
    weight, bias = Place(f"{name}.weight", third, transposed=True), Place(f"{name}.bias", third)
    return {f"NIN_{number}.W": weight, f"NIN_{number}.b": bias}


# Their layers by kind, each in the order in which they keep the parameters.
KINDS = {
    "fourier": {"W": Place("frequencies")},
    "plain": PLAIN,
    "residual": _layers(
        GroupNorm_0="norm1", Conv_0="conv1", Dense_0="shift", GroupNorm_1="norm2", Conv_1="conv2", Conv_2="skip"
    ),
    "attention": _layers(GroupNorm_0="norm")
    | _nin(0, "qkv", 0)
    | _nin(1, "qkv", 1)
    | _nin(2, "qkv", 2)
    | _nin(3, "out"),
    "filtered": {f"Conv2d_0.{leaf}": Place(f"conv.{leaf}") for leaf in PLAIN},
    "convolved": {f"Conv_0.{leaf}": Place(f"conv.{leaf}") for leaf in PLAIN},
}


def read_score_sde(
    file: Path,
    sde: SDE | None = None,
    weights: Literal["ema", "raw"] = "ema",
    size: int = 32,
    beta_min: float = 0.1,
    beta_max: float = 20.0,
) -> Imported:
    """What a checkpoint of images of size x size pixels is here; ValueError, one sentence, where it does not fit."""
    found = read_tensors(file)
    nested = isinstance(found.get("model"), Mapping)
    model = found["model"] if nested else found
    tensors = {name.removeprefix("module."): value for name, value in model.items()}
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(f"{file} holds no state dict of tensors: name a checkpoint of score_sde_pytorch")
    sigmas = tensors.pop("sigmas", None)
    arguments = architecture({name: value.shape for name, value in tensors.items()}, size)
    sde = equation(sde, arguments["embedding"], file)
    arguments["recentre"] = sde == "ve"
    with torch.device("meta"):
        net = NCSNpp(**arguments)
    where = places(arguments)
    state = fill(net, where, tensors)
    if weights == "ema":
        shadow = averages(found.get("ema") if nested else None, where, state, file)
        state = fill(net, where, tensors | shadow)
    module = {
        "_target_": "lightning_gen.families.ScoreSDE",
        "sde": sde,
        "parametrization": "ve" if sde == "ve" else "noise",
        "ema_decay": None if weights == "raw" else 0.999 if sde == "ve" else 0.9999,
        "value_range": [0.0, 1.0] if sde == "ve" else [-1.0, 1.0],
    }
    predictor = {"_target_": "lightning_gen.samplers.EulerMaruyama", "steps": 1000}
    sampler = predictor
    if sde == "ve":
        if sigmas is None or sigmas.ndim != 1 or not len(sigmas) or not 0 < sigmas[-1] <= sigmas[0]:
            raise ValueError(f"{file} has no falling list sigmas, the noise levels of a VE: take the whole file")
        module |= {"sigma_min": float(f"{sigmas[-1]:.6g}"), "sigma_max": float(f"{sigmas[0]:.6g}")}
        sampler = {
            "_target_": "lightning_gen.samplers.PredictorCorrector",
            "predictor": predictor,
            "corrections": 1,
            "snr": 0.16,
        }
    else:
        module |= {"beta_min": beta_min, "beta_max": beta_max}
    node = {"_target_": "lightning_gen.nets.NCSNpp", **arguments, "dropout": 0.1, "classes": None}
    step = f", step {found['step']}" if nested and isinstance(found.get("step"), int) else ""
    return Imported(node, module, sampler, state, f"score_sde {file.name}, {weights}{step}")


def equation(sde: SDE | None, embedding: str, file: Path) -> SDE:
    """The SDE of a network with this embedding of time: Fourier features are told log sigma, the others 999 t."""
    if embedding == "fourier":
        if sde not in (None, "ve"):
            raise ValueError(f"sde is {sde}, but {file} has Fourier features of log sigma: write ve")
        return "ve"
    if sde not in ("vp", "subvp"):
        raise ValueError(f"sde is {sde}, but {file} has sines of 999 t: write vp or subvp, as it was trained")
    return sde


def averages(ema: Any, where: Mapping[str, Place], ours: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The averaged parameters by name: shadow_params are the trained parameters in the order of their modules."""
    shadow = ema.get("shadow_params") if isinstance(ema, Mapping) else None
    if not isinstance(shadow, list | tuple) or not all(isinstance(value, Tensor) for value in shadow):
        raise ValueError(f"{file} holds no averaged weights (ema.shadow_params): ask for the raw ones")
    trained = [name for name, place in where.items() if place.name in ours and place.name != "embedding.frequencies"]
    if len(shadow) != len(trained):
        raise ValueError(
            f"{file} has {len(shadow)} averaged tensors, the network {len(trained)} parameters: ask for the raw weights"
        )
    return dict(zip(trained, shadow, strict=True))


def modules(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(kind, our place) of all_modules.0, .1, ... for a network of these arguments."""
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


def places(arguments: Mapping[str, Any]) -> dict[str, Place]:
    """The place of every tensor, in the order of their parameters; a skip that ours lacks has a name all the same."""
    return {
        f"all_modules.{number}.{layer}": place._replace(name=f"{at}.{place.name}")
        for number, (kind, at) in enumerate(modules(arguments))
        for layer, place in KINDS[kind].items()
    }


def architecture(shapes: Mapping[str, torch.Size], size: int) -> dict[str, Any]:
    """The arguments of our NCSNpp, read off names and shapes; ValueError where they are of another kind of network.

    What this does not see is found when the tensors are put in their places.
    """
    rows: dict[int, dict[str, torch.Size]] = {}
    for name, shape in shapes.items():
        head, _, rest = name.partition(".")
        number, _, layer = rest.partition(".")
        if head != "all_modules" or not number.isdigit():
            raise ValueError(f"tensor {name} is none of all_modules.N.*, of which NCSN++ consists: import another file")
        rows.setdefault(int(number), {})[layer] = shape
    ordered = [rows[number] for number in sorted(rows)]
    try:
        kinds = [_kind(row) for row in ordered]
        stem = kinds.index("conv")
        channels, colours = ordered[stem]["weight"][:2]
        resized, residual = kinds.count("resized"), kinds.count("residual")
        levels = resized // 2 + 1
        blocks = (residual - 2 - levels) // (2 * levels)
        kept = [
            (kind, row)
            for kind, row in zip(kinds, ordered, strict=True)
            if kind in ("residual", "resized", "attention")
        ]
        multipliers, attends = [], []
        for level in range(levels):
            row = kept.pop(0)[1]
            multipliers.append(row["Conv_1.weight"][0] // channels)
            attends.append(kept[0][0] == "attention")
            del kept[: (blocks - 1) * (1 + attends[-1]) + attends[-1] + (level < levels - 1)]
    except (ValueError, IndexError, KeyError):
        raise ValueError(
            f"the {len(rows)} modules are not those of an NCSN++ or DDPM++ with BigGAN's blocks: import another file"
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


def _kind(row: Mapping[str, torch.Size]) -> str:
    """What a module is by its tensors; a residual block that changes size carries x by a convolution without need."""
    if "Dense_0.weight" in row:
        outputs, inputs = row["Conv_0.weight"][:2]
        return "resized" if "Conv_2.weight" in row and inputs == outputs else "residual"
    for layer, kind in (("W", "fourier"), ("NIN_3.W", "attention"), ("Conv2d_0.weight", "filtered")):
        if layer in row:
            return kind
    if "Conv_0.weight" in row:
        return "convolved"
    return {1: "norm", 2: "linear", 4: "conv"}.get(len(row.get("weight", ())), "unknown")

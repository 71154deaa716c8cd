"""NCSN++ as its authors lay it out: names and shapes of all tensors, and the network as plain functions of them.

Written from their description and their code's order of modules, apart from the package: no class of it is used.
Score SDE (Song et al., 2021), https://arxiv.org/abs/2011.13456, https://github.com/yang-song/score_sde_pytorch
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Settings(NamedTuple):
    """The keys of their config that matter here, under their names."""

    nf: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 2, 2)
    num_res_blocks: int = 4
    attn_resolutions: tuple[int, ...] = (16,)
    image_size: int = 32
    num_channels: int = 3
    embedding_type: str = "fourier"
    fir: bool = True
    progressive: str = "none"
    progressive_input: str = "residual"
    centered: bool = False
    scale_by_sigma: bool = True


class Record:
    """Walks the modules in order: hands out the tensors of the next one, or writes down which it would have."""

    def __init__(self, state: dict[str, Tensor] | None = None) -> None:
        self.state, self.names, self.number = state, {}, 0

    def module(self, **shapes: tuple[int, ...]) -> dict[str, Tensor]:
        """The tensors of one module by their names inside it, `__` for a dot."""
        found = {}
        for layer, shape in shapes.items():
            name = f"all_modules.{self.number}.{layer.replace('__', '.')}"
            self.names[name] = shape
            found[layer] = torch.zeros(shape, device="meta") if self.state is None else self.state[name]
        self.number += 1
        return found


def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GroupNorm of min(C / 4, 32) groups."""
    return F.group_norm(x, min(x.shape[1] // 4, 32), weight, bias, eps=1e-6)


def firs(x: Tensor, before: int, after: int) -> Tensor:
    """Rows, then columns, filtered by (1, 3, 3, 1) / 8 with zeros outside."""
    x = F.pad(x, (before, after, before, after))
    for dim in (2, 3):
        size = x.shape[dim] - 3
        x = sum(w / 8 * x.narrow(dim, k, size) for k, w in enumerate((1, 3, 3, 1)))
    return x


def stuffed(x: Tensor) -> Tensor:
    """Each place followed by a zero, in both directions."""
    y = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    y[..., ::2, ::2] = x
    return y


def down(x: Tensor, fir: bool) -> Tensor:
    """Half the size."""
    if fir:
        return firs(x, 1, 1)[..., ::2, ::2]
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def up(x: Tensor, fir: bool) -> Tensor:
    """Twice the size."""
    return 4 * firs(stuffed(x), 2, 1) if fir else x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def residual(r: Record, x: Tensor, temb: Tensor, outputs: int, resize=None) -> Tensor:
    """BigGAN's block with its sum over sqrt 2."""
    inputs = x.shape[1]
    shapes = {"GroupNorm_0__weight": (inputs,), "GroupNorm_0__bias": (inputs,)}
    shapes |= {"Conv_0__weight": (outputs, inputs, 3, 3), "Conv_0__bias": (outputs,)}
    shapes |= {"Dense_0__weight": (outputs, temb.shape[1]), "Dense_0__bias": (outputs,)}
    shapes |= {"GroupNorm_1__weight": (outputs,), "GroupNorm_1__bias": (outputs,)}
    shapes |= {"Conv_1__weight": (outputs, outputs, 3, 3), "Conv_1__bias": (outputs,)}
    if inputs != outputs or resize:
        shapes |= {"Conv_2__weight": (outputs, inputs, 1, 1), "Conv_2__bias": (outputs,)}
    m = r.module(**shapes)
    h = F.silu(norm(x, m["GroupNorm_0__weight"], m["GroupNorm_0__bias"]))
    if resize:
        h, x = resize(h), resize(x)
    h = F.conv2d(h, m["Conv_0__weight"], m["Conv_0__bias"], padding=1)
    h = h + F.linear(F.silu(temb), m["Dense_0__weight"], m["Dense_0__bias"])[:, :, None, None]
    h = F.silu(norm(h, m["GroupNorm_1__weight"], m["GroupNorm_1__bias"]))
    h = F.conv2d(h, m["Conv_1__weight"], m["Conv_1__bias"], padding=1)
    if "Conv_2__weight" in m:
        x = F.conv2d(x, m["Conv_2__weight"], m["Conv_2__bias"])
    return (x + h) / math.sqrt(2)


def attention(r: Record, x: Tensor) -> Tensor:
    """One head over all places, its four matrices (inputs, outputs)."""
    b, c, height, width = x.shape
    shapes = {"GroupNorm_0__weight": (c,), "GroupNorm_0__bias": (c,)}
    for i in range(4):
        shapes |= {f"NIN_{i}__W": (c, c), f"NIN_{i}__b": (c,)}
    m = r.module(**shapes)
    h = norm(x, m["GroupNorm_0__weight"], m["GroupNorm_0__bias"]).reshape(b, c, -1).transpose(1, 2)
    q, k, v = (h @ m[f"NIN_{i}__W"] + m[f"NIN_{i}__b"] for i in range(3))
    h = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(c), dim=-1) @ v
    h = h @ m["NIN_3__W"] + m["NIN_3__b"]
    return (x + h.transpose(1, 2).reshape(b, c, height, width)) / math.sqrt(2)


def head(r: Record, h: Tensor, channels: int) -> Tensor:
    """An output of a level: two modules."""
    m = r.module(weight=(h.shape[1],), bias=(h.shape[1],))
    h = F.silu(norm(h, **m))
    return F.conv2d(h, **r.module(weight=(channels, h.shape[1], 3, 3), bias=(channels,)), padding=1)


def shrunk(r: Record, x: Tensor, outputs: int, fir: bool) -> Tensor:
    """The pyramid of the input: a 3x3 convolution of stride 2."""
    name = "Conv2d_0" if fir else "Conv_0"
    m = r.module(**{f"{name}__weight": (outputs, x.shape[1], 3, 3), f"{name}__bias": (outputs,)})
    x = firs(x, 2, 2) if fir else F.pad(x, (0, 1, 0, 1))
    return F.conv2d(x, m[f"{name}__weight"], m[f"{name}__bias"], stride=2)


def forward(r: Record, config: Settings, x: Tensor, cond: Tensor) -> Tensor:
    """Their network at x and `cond`: sigma for fourier, 999 t for positional."""
    nf, levels = config.nf, len(config.ch_mult)
    if config.embedding_type == "fourier":
        angle = 2 * math.pi * cond.log()[:, None] * r.module(W=(nf,))["W"]
    else:
        half = nf // 2
        angle = cond[:, None] * torch.exp(-math.log(10000) / (half - 1) * torch.arange(half).to(cond))
    temb = torch.cat([angle.sin(), angle.cos()], 1)
    temb = F.linear(temb, **r.module(weight=(4 * nf, temb.shape[1]), bias=(4 * nf,)))
    temb = F.linear(F.silu(temb), **r.module(weight=(4 * nf, 4 * nf), bias=(4 * nf,)))
    pyramid = x = x if config.centered else 2 * x - 1
    h = F.conv2d(x, **r.module(weight=(nf, config.num_channels, 3, 3), bias=(nf,)), padding=1)
    hs, resolutions = [h], [config.image_size // 2**i for i in range(levels)]
    for level, mult in enumerate(config.ch_mult):
        for _ in range(config.num_res_blocks):
            h = residual(r, h, temb, nf * mult)
            h = attention(r, h) if resolutions[level] in config.attn_resolutions else h
            hs.append(h)
        if level < levels - 1:
            h = residual(r, h, temb, nf * mult, lambda y: down(y, config.fir))
            if config.progressive_input == "residual":
                pyramid = h = (shrunk(r, pyramid, nf * mult, config.fir) + h) / math.sqrt(2)
            hs.append(h)
    h = residual(r, h, temb, h.shape[1])
    h = residual(r, attention(r, h), temb, h.shape[1])
    total = None
    for level in reversed(range(levels)):
        for _ in range(config.num_res_blocks + 1):
            h = residual(r, torch.cat([h, hs.pop()], 1), temb, nf * config.ch_mult[level])
        h = attention(r, h) if resolutions[level] in config.attn_resolutions else h
        if config.progressive == "output_skip":
            part = head(r, h, config.num_channels)
            total = part if total is None else up(total, config.fir) + part
        if level:
            h = residual(r, h, temb, h.shape[1], lambda y: up(y, config.fir))
    h = head(r, h, config.num_channels) if total is None else total
    return h / cond.reshape(-1, 1, 1, 1) if config.scale_by_sigma else h


def shapes(config: Settings) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of their all_modules, in the order of their parameters."""
    record, side = Record(), config.image_size
    with torch.device("meta"):
        forward(record, config, torch.zeros(1, config.num_channels, side, side), torch.ones(1))
    return record.names


def checkpoint(config: Settings, seed: int = 0, prefix: str = "module.") -> dict:
    """What their code would save: raw weights, other weights as the average, and the step."""
    g = torch.Generator().manual_seed(seed)

    def drawn(shape):
        size = math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.3
        return size * torch.randn(shape, generator=g) + (0.5 if len(shape) == 1 else 0.0)

    names = shapes(config)
    raw = {name: drawn(shape) for name, shape in names.items()}
    if config.embedding_type == "fourier":
        raw["all_modules.0.W"] = 16 * torch.randn(config.nf, generator=g)
    shadow = [drawn(shape) for name, shape in names.items() if name != "all_modules.0.W"]
    sigmas = torch.linspace(math.log(50), math.log(0.01), 1000, dtype=torch.float64).exp()
    model = {f"{prefix}sigmas": sigmas, **{f"{prefix}{name}": value for name, value in raw.items()}}
    ema = {"decay": 0.999, "num_updates": 7, "shadow_params": shadow}
    return {"optimizer": {"state": {}, "param_groups": []}, "model": model, "ema": ema, "step": 7}


def averaged(saved: dict, prefix: str = "module.") -> dict[str, Tensor]:
    """The tensors by name with the averages put in their places, as their EMA copies them."""
    state = {name.removeprefix(prefix): value for name, value in saved["model"].items() if not name.endswith("sigmas")}
    trained = [name for name in state if not name.endswith(".0.W")]
    return state | dict(zip(trained, saved["ema"]["shadow_params"], strict=True))

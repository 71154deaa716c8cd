"""EDM's SongUNet and pytorch-ddpm's U-Net as functions of their named tensors, written from what their layouts mean.

EDM (Karras et al., 2022), https://github.com/NVlabs/edm; https://github.com/w86763777/pytorch-ddpm
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .reference import stuffed

ROOT = math.sqrt(0.5)


class Weights:
    """Hands out tensors by name, or writes down which shapes they would have."""

    def __init__(self, state: dict[str, Tensor] | None = None) -> None:
        self.state, self.shapes = state, {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """The tensor of this name, which has this shape."""
        self.shapes[name] = shape
        return torch.zeros(shape, device="meta") if self.state is None else self.state[name].reshape(shape)

    def conv(self, name: str, x: Tensor, outputs: int, kernel: int = 3, **options) -> Tensor:
        """A convolution with its bias."""
        weight = self(f"{name}.weight", outputs, x.shape[1], kernel, kernel)
        return F.conv2d(x, weight, self(f"{name}.bias", outputs), **{"padding": kernel // 2} | options)

    def linear(self, name: str, x: Tensor, outputs: int) -> Tensor:
        """A matrix with its bias."""
        return x @ self(f"{name}.weight", outputs, x.shape[1]).T + self(f"{name}.bias", outputs)

    def norm(self, name: str, x: Tensor, groups: int, eps: float) -> Tensor:
        """A group normalisation."""
        c = x.shape[1]
        return F.group_norm(x, groups, self(f"{name}.weight", c), self(f"{name}.bias", c), eps)


def drawn(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Tensors of these shapes that no name shares."""
    g = torch.Generator().manual_seed(seed)
    return {
        name: math.prod(shape[1:]) ** -0.5 * torch.randn(shape, generator=g) + 0.4 * (len(shape) == 1)
        for name, shape in shapes.items()
    }


def filtered(x: Tensor, taps: Tensor, stride: int, padding: int) -> Tensor:
    """Each map convolved with the taps' square, whose sum is 1."""
    square = torch.outer(taps, taps).to(x)[None, None].expand(x.shape[1], 1, -1, -1) / taps.sum() ** 2
    return F.conv2d(F.pad(x, (padding,) * 4), square, stride=stride, groups=x.shape[1])


def halved(x: Tensor, taps: Tensor) -> Tensor:
    """Every other pixel of the filtered maps."""
    return filtered(x, taps, 2, len(taps) // 2 - 1)


def doubled(x: Tensor, taps: Tensor) -> Tensor:
    """Zeros between the pixels, and filtered: four times the mean."""
    full = filtered(stuffed(x), taps, 1, len(taps) - 1)
    start = len(taps) // 2 - 1
    return 4 * full[..., start : start + 2 * x.shape[2], start : start + 2 * x.shape[3]]


def edm_block(w: Weights, name: str, x: Tensor, emb: Tensor, outputs: int, resize=None, attend=False) -> Tensor:
    """UNetBlock with one head, no adaptive scale, and resize on both branches."""
    groups = lambda y: min(32, y.shape[1] // 4)  # noqa: E731
    h = F.silu(w.norm(f"{name}.norm0", x, groups(x), 1e-6))
    h = w.conv(f"{name}.conv0", resize(h) if resize else h, outputs)
    h = h + w.linear(f"{name}.affine", emb, outputs)[:, :, None, None]
    h = w.conv(f"{name}.conv1", F.silu(w.norm(f"{name}.norm1", h, groups(h), 1e-6)), outputs)
    if resize or outputs != x.shape[1]:
        x = w.conv(f"{name}.skip", resize(x) if resize else x, outputs, 1)
    x = (x + h) * ROOT
    if attend:
        b, c, *size = x.shape
        qkv = w.conv(f"{name}.qkv", w.norm(f"{name}.norm2", x, groups(x), 1e-6), 3 * c, 1).reshape(b, c, 3, -1)
        weight = torch.softmax(torch.einsum("bcq,bck->bqk", qkv[:, :, 0], qkv[:, :, 1]) / math.sqrt(c), -1)
        mixed = torch.einsum("bqk,bck->bcq", weight, qkv[:, :, 2]).reshape(b, c, *size)
        x = (x + w.conv(f"{name}.proj", mixed, c, 1)) * ROOT
    return x


def song_unet(w: Weights, x: Tensor, noise: Tensor, settings: dict) -> Tensor:
    """SongUNet without labels at c_in x and c_noise."""
    nf, mult, size = settings["nf"], settings["mult"], x.shape[2]
    taps = torch.tensor(settings["taps"], dtype=torch.float32)
    if settings["fourier"]:
        angle = 2 * math.pi * noise[:, None] * w("map_noise.freqs", nf)
    else:
        angle = noise[:, None] * 1e-4 ** (torch.arange(nf // 2).to(noise) / (nf // 2 - 1))
    emb = torch.cat([angle.sin(), angle.cos()], 1)  # cosines first, and then swapped
    w("map_augment.weight", emb.shape[1], 9)
    emb = F.silu(w.linear("map_layer1", F.silu(w.linear("map_layer0", emb, 4 * nf)), 4 * nf))
    square = lambda level: f"{size >> level}x{size >> level}"  # noqa: E731
    attends = [size >> level in settings["attn"] for level in range(len(mult))]
    h, skips, aux = x, [], x
    for level, m in enumerate(mult):
        at = f"enc.{square(level)}"
        if level == 0:
            h = w.conv(f"{at}_conv", h, nf)
        else:
            for layer in ("conv0", "skip"):
                w(f"{at}_down.{layer}.resample_filter", 1, 1, len(taps), len(taps))
            h = edm_block(w, f"{at}_down", h, emb, h.shape[1], lambda y: halved(y, taps))
        if level and settings["residual"]:
            w(f"{at}_aux_residual.resample_filter", 1, 1, len(taps), len(taps))
            c = h.shape[1]
            weight = w(f"{at}_aux_residual.weight", c, aux.shape[1], 3, 3)
            aux = filtered(F.conv2d(aux, weight, padding=1 + len(taps) // 2 - 1), taps, 2, 0)
            aux = h = (h + aux + w(f"{at}_aux_residual.bias", c)[:, None, None]) * ROOT
        skips.append(h)
        for index in range(settings["blocks"]):
            h = edm_block(w, f"{at}_block{index}", h, emb, nf * m, attend=attends[level])
            skips.append(h)
    out = None
    for level, m in reversed(list(enumerate(mult))):
        at = f"dec.{square(level)}"
        if level == len(mult) - 1:
            h = edm_block(w, f"{at}_in0", h, emb, h.shape[1], attend=True)
            h = edm_block(w, f"{at}_in1", h, emb, h.shape[1])
        else:
            h = edm_block(w, f"{at}_up", h, emb, h.shape[1], lambda y: doubled(y, taps))
        for index in range(settings["blocks"] + 1):
            last = attends[level] and index == settings["blocks"]
            h = edm_block(w, f"{at}_block{index}", torch.cat([h, skips.pop()], 1), emb, nf * m, attend=last)
        if settings["skip"] or level == 0:
            part = F.silu(w.norm(f"{at}_aux_norm", h, min(32, h.shape[1] // 4), 1e-6))
            part = w.conv(f"{at}_aux_conv", part, x.shape[1])
            out = part if out is None else doubled(out, taps) + part
    return out


def edm_state(settings: dict, size: int = 8, colours: int = 3, seed: int = 0) -> dict[str, Tensor]:
    """What net.state_dict() of a class around the network has: the filters among the weights."""
    w = Weights()
    with torch.device("meta"):
        song_unet(w, torch.zeros(1, colours, size, size), torch.ones(1), settings)
    state = drawn(w.shapes, seed)
    taps = torch.tensor(settings["taps"], dtype=torch.float32)
    state |= {n: (torch.outer(taps, taps) / taps.sum() ** 2)[None, None] for n in state if n.endswith("filter")}
    return {f"model.{name}": value for name, value in state.items()}


def ddpm_unet(w: Weights, x: Tensor, t: Tensor, settings: dict) -> Tensor:
    """pytorch-ddpm's network at x and whole numbers t."""
    ch, mult, count = settings["ch"], settings["mult"], settings["T"]
    width = 4 * ch
    temb = w("time_embedding.timembedding.0.weight", count, ch)[t]
    temb = F.silu(w.linear("time_embedding.timembedding.1", temb, width))
    temb = F.silu(w.linear("time_embedding.timembedding.3", temb, width))

    def block(name, h, outputs, attend):
        y = w.conv(f"{name}.block1.2", F.silu(w.norm(f"{name}.block1.0", h, 32, 1e-5)), outputs)
        y = y + w.linear(f"{name}.temb_proj.1", temb, outputs)[:, :, None, None]
        y = w.conv(f"{name}.block2.3", F.silu(w.norm(f"{name}.block2.0", y, 32, 1e-5)), outputs)
        h = y + (w.conv(f"{name}.shortcut", h, outputs, 1) if h.shape[1] != outputs else h)
        if attend:
            z = w.norm(f"{name}.attn.group_norm", h, 32, 1e-5)
            q, k, v = (w.conv(f"{name}.attn.proj_{part}", z, outputs, 1).flatten(2) for part in "qkv")
            mixed = v @ torch.softmax(q.transpose(1, 2) @ k / math.sqrt(outputs), -1).transpose(1, 2)
            h = h + w.conv(f"{name}.attn.proj", mixed.reshape(h.shape), outputs, 1)
        return h

    h = w.conv("head", x, ch)
    hs, number = [h], 0
    for level, m in enumerate(mult):
        for _ in range(settings["blocks"]):
            h = block(f"downblocks.{number}", h, ch * m, level in settings["attn"])
            number += 1
            hs.append(h)
        if level < len(mult) - 1:
            h = w.conv(f"downblocks.{number}.main", h, ch * m, stride=2)
            number += 1
            hs.append(h)
    h = block("middleblocks.1", block("middleblocks.0", h, h.shape[1], True), h.shape[1], False)
    number = 0
    for level, m in reversed(list(enumerate(mult))):
        for _ in range(settings["blocks"] + 1):
            h = block(f"upblocks.{number}", torch.cat([h, hs.pop()], 1), ch * m, level in settings["attn"])
            number += 1
        if level:
            h = w.conv(f"upblocks.{number}.main", h.repeat_interleave(2, 2).repeat_interleave(2, 3), ch * m)
            number += 1
    return w.conv("tail.2", F.silu(w.norm("tail.0", h, 32, 1e-5)), x.shape[1])


def ddpm_checkpoint(settings: dict, size: int = 8) -> dict:
    """ckpt.pt, with other weights as the average."""
    w = Weights()
    with torch.device("meta"):
        ddpm_unet(w, torch.zeros(1, 3, size, size), torch.ones(1, dtype=torch.long), settings)
    half = settings["ch"] // 2
    angle = torch.arange(settings["T"])[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
    table = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
    sets = [drawn(w.shapes, seed) | {"time_embedding.timembedding.0.weight": table} for seed in (0, 1)]
    optim = {"state": {}, "param_groups": []}
    return {"net_model": sets[0], "ema_model": sets[1], "sched": {"last_epoch": 7}, "optim": optim, "step": 7}

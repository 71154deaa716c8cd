"""The names of diffusers' UNet2DModel in the U-Net of this project, so that its weights can be read here."""

import torch
from torch import Tensor

RESIDUAL = {
    "norm1": "norm1",
    "conv1": "conv1",
    "time_emb_proj": "shift",
    "norm2": "norm2",
    "conv2": "conv2",
    "conv_shortcut": "skip",
}
ATTENTION = {"group_norm": "norm", "to_out.0": "out"}
ENDS = {
    "conv_in": "first",
    "time_embedding.linear_1": "embedding.first",
    "time_embedding.linear_2": "embedding.second",
    "class_embedding": "embedding.table",
    "conv_norm_out": "norm",
    "conv_out": "last",
}


def from_diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a UNet2DModel of DDPM's kind -> state dict of lightning_gen.nets.UNet with the same output.

    Blocks of a level stand in one list here: level l of the way down starts at l (blocks + 1), its resampling last;
    of the way up, counted from the bottom, at l (blocks + 2). The three projections of an attention are one matrix.
    """
    blocks = len({name.split(".")[3] for name in state if name.startswith("down_blocks.0.resnets.")})
    stride = {"down_blocks": blocks + 1, "up_blocks": blocks + 2}
    ours: dict[str, Tensor] = {}
    for name, value in state.items():
        stem, leaf = name.rsplit(".", 1)
        if stem in ENDS:
            ours[f"{ENDS[stem]}.{leaf}"] = value
            continue
        path, level, kind, index, layer = _place(stem)
        if kind in ("downsamplers", "upsamplers"):
            index = stride[path] - 1
        if path == "mid_block":
            place = f"middle.{index}"
        else:
            place = f"{path.removesuffix('_blocks')}.{level * stride[path] + index}"
        if kind == "attentions":
            place += ".attention"
            if layer in ("to_q", "to_k", "to_v"):
                if layer == "to_q":
                    parts = [state[f"{stem.removesuffix('to_q')}{part}.{leaf}"] for part in ("to_q", "to_k", "to_v")]
                    ours[f"{place}.qkv.{leaf}"] = torch.cat(parts)
                continue
            layer = ATTENTION[layer]
        else:
            layer = RESIDUAL.get(layer, layer)
        ours[f"{place}.{layer}.{leaf}"] = value
    return ours


def _place(stem: str) -> tuple[str, int, str, int, str]:
    """("down_blocks", 1, "resnets", 0, "conv1") from "down_blocks.1.resnets.0.conv1"; the middle has level 0."""
    parts = stem.split(".")
    if parts[0] == "mid_block":
        parts.insert(1, "0")
    path, level, kind, index, *layer = parts
    return path, int(level), kind, int(index), ".".join(layer)

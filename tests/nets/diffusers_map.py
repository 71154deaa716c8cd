"""The state dict of a UNet2DModel under our names, by the one map that the package has."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lightning_gen.convert.diffusers import targets


def from_diffusers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a UNet2DModel of DDPM's kind -> state dict of lightning_gen.nets.UNet with the same output."""
    ours: dict[str, list[tuple[int, Tensor]]] = {}
    for name, target in targets(state).items():
        ours.setdefault(target.name, []).append((target.third or 0, state[name]))
    return {
        name: torch.cat([value for _, value in sorted(parts, key=lambda part: part[0])]) for name, parts in ours.items()
    }

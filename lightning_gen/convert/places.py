"""Where each foreign tensor goes: each is used once, each has the right shape, and nothing of ours stays empty."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Place(NamedTuple):
    """A tensor of our state dict, or a third of its first axis; `transposed`: theirs is (inputs, outputs)."""

    name: str
    third: int | None = None
    transposed: bool = False

    def part(self, whole: Tensor) -> Tensor:
        """What of our tensor `whole` this place is, in the foreign tensor's shape."""
        part = whole if self.third is None else whole.chunk(3)[self.third]
        return part.T if self.transposed else part


def fill(net: nn.Module, places: Mapping[str, Place], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of `net`, float32, out of foreign tensors; `places` says where a foreign name goes.

    Raises ValueError, one sentence, for a tensor that is foreign, missing, or of another shape.
    """
    ours = {name: torch.empty(value.shape) for name, value in net.state_dict().items()}
    needed = {name: place for name, place in places.items() if place.name in ours}
    if foreign := [name for name in state if name not in needed]:
        raise ValueError(
            f"tensor {foreign[0]} has no place in this network ({_more(foreign)}): import what belongs to it"
        )
    if missing := [name for name in needed if name not in state]:
        raise ValueError(f"tensor {missing[0]} is missing ({_more(missing)}): take the whole file")
    left, filled = {name: value.numel() for name, value in ours.items()}, set()
    for name, value in state.items():
        if needed[name] in filled:
            raise ValueError(f"tensor {name} comes a second time under another name: take the file as it was published")
        filled.add(needed[name])
        part = needed[name].part(ours[needed[name].name])
        if value.shape != part.shape:
            raise ValueError(
                f"tensor {name} has the shape {tuple(value.shape)}, the network needs {tuple(part.shape)}: "
                "import it with the config that it was trained with"
            )
        if not torch.isfinite(value).all():
            raise ValueError(f"tensor {name} holds values that are not finite: take another checkpoint")
        part.copy_(value)
        left[needed[name].name] -= value.numel()
    if open_ := [name for name, count in left.items() if count]:
        raise ValueError(f"nothing in the file is for {open_[0]} ({_more(open_)}): take the whole file")
    return ours


def _more(names: list[str]) -> str:
    return f"{len(names)} such tensor{'s' * (len(names) > 1)}"

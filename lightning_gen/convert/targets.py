"""From foreign tensors to a state dict of ours: each is used once and has the right shape, and none of ours is left."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Target(NamedTuple):
    """Where a foreign tensor is copied to: a tensor of our state dict, or a third of its first axis.

    Args:
        name: of our tensor.
        third: 0, 1 or 2 of its first axis; null for all of it.
        transposed: the foreign tensor is (inputs, outputs), ours (outputs, inputs).
    """

    name: str
    third: int | None = None
    transposed: bool = False

    def part(self, whole: Tensor) -> Tensor:
        """The part of our tensor `whole` that is copied to, a view in the foreign tensor's shape."""
        part = whole if self.third is None else whole.chunk(3)[self.third]
        return part.T if self.transposed else part


def converted_state(net: nn.Module, targets: Mapping[str, Target], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of `net`, float32, from foreign tensors `state`; `targets` by foreign names.

    ValueError for a tensor that is unknown, missing, repeated, of another shape, or not finite.
    """
    ours = {name: torch.empty(value.shape) for name, value in net.state_dict().items()}
    needed = {name: target for name, target in targets.items() if target.name in ours}
    if unknown := [name for name in state if name not in needed]:
        raise ValueError(
            f"tensor {unknown[0]} is not of this network ({_count(unknown)}): import the file that belongs to it"
        )
    if missing := [name for name in needed if name not in state]:
        raise ValueError(f"tensor {missing[0]} is missing ({_count(missing)}): take the whole file")
    missing_values, used = {name: value.numel() for name, value in ours.items()}, set()
    for name, value in state.items():
        if needed[name] in used:
            raise ValueError(f"tensor {name} comes a second time under another name: take the file as it was published")
        used.add(needed[name])
        part = needed[name].part(ours[needed[name].name])
        if value.shape != part.shape:
            raise ValueError(
                f"tensor {name} has the shape {tuple(value.shape)}, the network needs {tuple(part.shape)}: "
                "import it with the config that it was trained with"
            )
        if not torch.isfinite(value).all():
            raise ValueError(f"tensor {name} holds values that are not finite: take another checkpoint")
        part.copy_(value)
        missing_values[needed[name].name] -= value.numel()
    if absent := [name for name, count in missing_values.items() if count]:
        raise ValueError(f"no tensor in the file is for {absent[0]} ({_count(absent)}): take the whole file")
    return ours


def _count(names: list[str]) -> str:
    """How many tensors, in words."""
    return f"{len(names)} such tensor{'s' * (len(names) > 1)}"

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
    unknown, missing = ([name for name in a if name not in b] for a, b in ((state, needed), (needed, state)))
    _raise_for(unknown, "tensor {} is not of this network ({}): import the file that belongs to it")
    _raise_for(missing, "tensor {} is missing ({}): take the whole file")
    missing_values, used = {name: value.numel() for name, value in ours.items()}, set()
    for name, value in state.items():
        if needed[name] in used:
            raise ValueError(f"tensor {name} comes a second time under another name: take the file as it was published")
        used.add(needed[name])
        part = needed[name].part(ours[needed[name].name])
        _check_value(name, value, part.shape)
        part.copy_(value)
        missing_values[needed[name].name] -= value.numel()
    absent = [name for name, count in missing_values.items() if count]
    _raise_for(absent, "no tensor in the file is for {} ({}): take the whole file")
    return ours


def _raise_for(names: list[str], fault: str) -> None:
    """ValueError where there are names; `fault` has {} for the first and {} for their number."""
    if names:
        raise ValueError(fault.format(names[0], f"{len(names)} such tensor{'s' * (len(names) > 1)}"))


def _check_value(name: str, value: Tensor, shape: torch.Size) -> None:
    """ValueError for a tensor of another shape, or not finite."""
    if value.shape != shape:
        raise ValueError(
            f"tensor {name} has the shape {tuple(value.shape)}, the network needs {tuple(shape)}: "
            "import it with the config that it was trained with"
        )
    if not torch.isfinite(value).all():
        raise ValueError(f"tensor {name} holds values that are not finite: take another checkpoint")

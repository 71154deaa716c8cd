"""Exact counts: operators, host syncs, floating-point operations, bytes kept for the backward pass."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

# What makes the host wait for a device: a tensor's value, or a size that depends on one.
SYNCS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::item", "aten::nonzero", "aten::equal"}


class Operators(TorchDispatchMode):
    """Counts what PyTorch's dispatcher runs, by name.

    One rule: an operator counts unless its schema says that the result is a view of an argument.

    Args:
        size: number of elements of results that are counted apart.
    """

    def __init__(self, size: int | None = None) -> None:
        super().__init__()
        self.size, self.large = size, 0
        self.names: Counter[str] = Counter()
        self.views: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operator's result."""
        result = function(*args, **(kwargs or {}))
        schema = function._schema
        view = any(value.alias_info is not None and not value.alias_info.is_write for value in schema.returns)
        (self.views if view else self.names)[schema.name] += 1
        self.large += not view and torch.is_tensor(result) and result.numel() == self.size
        return result

    @property
    def total(self) -> int:
        """Operators but views."""
        return self.names.total()

    @property
    def syncs(self) -> int:
        """Times that the host would wait for a device."""
        return sum(self.names[name] for name in SYNCS)

    def most(self, n: int = 5) -> str:
        """The n most frequent operators."""
        parts = [f"{name.removeprefix('aten::')} {count}" for name, count in self.names.most_common(n)]
        return f"most are {', '.join(parts)}"


def operators(call: Callable[[], object], size: int | None = None) -> Operators:
    """The operators of a call, those of a backward pass in it included."""
    with Operators(size) as counter:
        call()
    return counter


def forward_and_backward(forward: Callable[[], Tensor]) -> Operators:
    """The operators of a forward pass and of its backward pass, without those of a loss."""
    gradient = torch.ones_like(forward())
    with Operators() as counter:
        out = forward()
    with counter:
        out.backward(gradient)
    return counter


def flops(call: Callable[[], object]) -> int:
    """Multiplications and additions of the matrix products, convolutions and attentions of a call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def saved_bytes(call: Callable[[], object], parameters: Any = ()) -> int:
    """Bytes that the forward pass in a call keeps for the backward pass, each storage once, without the parameters."""
    kept: dict[int, Tensor] = {}
    weights = {p.untyped_storage().data_ptr() for p in parameters}

    def pack(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x  # the tensor itself stays: its address is not used again
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = call()
    del out
    return sum(x.untyped_storage().nbytes() for address, x in kept.items() if address not in weights)

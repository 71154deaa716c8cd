"""Exact counts: operators, host syncs, floating-point operations, bytes kept for the backward pass."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_gen.families.cost import Activations, Products

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
    with Products() as counter:
        call()
    return counter.total


def saved_bytes(forward: Callable[[], Tensor], parameters: Iterable[Tensor]) -> int:
    """Bytes that a forward pass keeps for the backward pass, each storage once, without the parameters."""
    with Activations(list(parameters)) as counter:
        out = forward()
    del out
    return counter.peak


class Live(TorchDispatchMode):
    """The most bytes that tensors made inside of it held at one time, each storage once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operator's result."""
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if torch.is_tensor(value):
                self.see(value.untyped_storage())
        return result

    def see(self, storage: torch.UntypedStorage) -> None:
        """Count a storage until it is gone."""
        address, size = storage.data_ptr(), storage.nbytes()
        if address not in self.known and size:
            self.known.add(address)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.forget, address, size)

    def forget(self, address: int, size: int) -> None:
        """It is gone."""
        self.known.discard(address)
        self.now -= size

"""What a piece of training costs, counted: operations of products, and bytes that wait for the backward pass."""

from collections import Counter
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Products(TorchDispatchMode):
    """Counts the multiplications and additions of matrix products and convolutions, backward passes included.

    torch's FlopCounterMode takes no gradient within a gradient. A compiled network hides its products from both.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, call: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Call, and count."""
        value = call(*args, **(kwargs or {}))
        count = flop_registry.get(call._overloadpacket)
        self.total += count(*args, **(kwargs or {}), out_val=value) if count else 0
        return value


class Activations(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that are kept for backward passes, at their peak: each storage once, parameters left out."""

    def __init__(self, parameters: list[Tensor]) -> None:
        super().__init__(self._keep, lambda kept: kept.tensor)
        self.peak = self._bytes = 0
        self._parameters = {p.untyped_storage().data_ptr() for p in parameters}
        self._uses: Counter[int] = Counter()

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def _keep(self, tensor: Tensor) -> "_Kept":
        return _Kept(tensor, self)

    def change(self, tensor: Tensor, uses: int) -> None:
        """Count one use more or less of a tensor's storage."""
        storage = tensor.untyped_storage()
        key = storage.data_ptr()
        if key in self._parameters:
            return
        before = self._uses[key]
        self._uses[key] += uses
        if before == 0 or self._uses[key] == 0:
            self._bytes += uses * storage.nbytes()
            self.peak = max(self.peak, self._bytes)


class _Kept:
    """A tensor that a graph keeps, until the graph is gone."""

    def __init__(self, tensor: Tensor, owner: Activations) -> None:
        self.tensor, self.owner = tensor, owner
        owner.change(tensor, 1)

    def __del__(self) -> None:
        self.owner.change(self.tensor, -1)

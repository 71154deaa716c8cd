"""Weights in shards over the processes: how a network is split, and tensors of which each process has a part."""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

if TYPE_CHECKING:
    from torch.distributed import DeviceMesh


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor, sharing its memory; a tensor that is not in shards, as it is."""
    return tensor._local_tensor if isinstance(tensor, DTensor) else tensor


def whole(value: Any) -> Any:
    """The whole of a tensor, which all processes have to ask for; anything else as it is."""
    return value.detach().full_tensor() if isinstance(value, DTensor) else value


def in_shards_like(value: Any, parameter: Tensor) -> Any:
    """This process's part of a tensor like the parameter, if that is in shards; anything else as it is."""
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    value = value.to(parameter.device)
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def blocks(net: nn.Module) -> list[nn.Module]:
    """The blocks with parameters in a network's ModuleLists."""
    lists = [part for part in net.modules() if isinstance(part, nn.ModuleList)]
    found = [block for part in lists for block in part if not isinstance(block, nn.ModuleList)]
    return [block for block in found if [*block.parameters()]]


def shard(net: nn.Module, mesh: "DeviceMesh") -> None:
    """Split a network's parameters over the processes: a unit for each block in a ModuleList, one for the rest.

    A unit's parameters are whole from its forward or backward pass's start to its end alone.
    """
    for unit in (*blocks(net), net):
        unit.register_forward_hook(_own_memory)
        fully_shard(unit, mesh=mesh)


def _own_memory(unit: nn.Module, inputs: tuple, output: Any) -> Any:
    """A copy of an output that is a view: changed in place, it would lose the hook that gathers the weights."""
    return output.clone() if isinstance(output, Tensor) and output._is_view() else output

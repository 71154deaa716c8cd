"""How a family's networks are run: memory format, compilation, and what is kept for the backward pass."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import nn
from torch.utils.checkpoint import checkpoint

from lightning_gen.models import Energy, Model, has
from lightning_gen.models.base import declared


def prepare(module: LightningModule) -> None:
    """Apply checkpointing and compile of a GenerativeModule, once, and take back channels_last on Apple's GPUs.

    ValueError where checkpointing does not fit: for an energy, and for a network without blocks.

    With checkpointing a block keeps its input for the backward pass, which computes the rest again: the same gradients,
    with less memory and about a third more time.
    Training deep nets with sublinear memory cost (Chen et al., 2016), https://arxiv.org/abs/1604.06174
    """
    if module.checkpointing and has(module.model, Energy):
        raise ValueError(
            f"module.checkpointing is true with {type(module.model).__name__}, whose loss takes a gradient within a "
            "gradient: write module.checkpointing=false"
        )
    trainer = module._trainer
    if trainer is not None and trainer.strategy.root_device.type == "mps":
        # There several operators have silently had wrong gradients in the other format (PyTorch's issue 175189).
        module.to(memory_format=torch.contiguous_format)
    for net in module.model.networks() if module.checkpointing else ():
        for block in blocks(net):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    for model in {module.model, module.averaged} if module.compiled else ():
        for net in called(model.networks()):
            net.compile()
    module.compiled = module.checkpointing = False  # Lightning configures a model before every stage


class InTraining:
    """The forward of a module, which torch.compile writes for training, that is with gradients, and nowhere else.

    Validation and sampling are as without it, to the bit. Each size of a batch is compiled on its own; of more sizes
    than torch.compile keeps (8) the others run as without it.

    Args:
        net: the module, whose forward it becomes.
    """

    on = True

    def __init__(self, net: nn.Module) -> None:
        self.net, self.eager = net, type(net).forward
        self.fast = torch.compile(self.eager, dynamic=False)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """The module's output."""
        fast = self.on and self.net.training and torch.is_grad_enabled()
        return (self.fast if fast else self.eager)(self.net, *args, **options)


def compile_training(model: Model, forward: type[InTraining] = InTraining) -> list[InTraining]:
    """Have the networks of a model compiled in training alone; returns their new forwards."""
    nets = called(model.networks())
    for net in nets:
        net.forward = forward(net)
    return [net.forward for net in nets]


def called(nets: Iterable[nn.Module]) -> list[nn.Module]:
    """The modules that are called, which torch.compile compiles: the networks, or the parts that they name so."""
    return [part for net in nets for part in declared(net, "called") or (net,)]


def blocks(net: nn.Module) -> list[nn.Module]:
    """Modules of several layers in the lists of a network (nn.ModuleList, nn.Sequential), none within another.

    ValueError for a network without any.
    """
    found = [*listed(net, False)]
    if not found:
        raise ValueError(
            f"module.checkpointing is true, and {type(net).__name__} has no list (nn.ModuleList) of blocks of several "
            "layers: write module.checkpointing=false"
        )
    return found


def listed(module: nn.Module, inside: bool) -> Iterator[nn.Module]:
    """The blocks below a module; inside: whether it is a list."""
    for child in module.children():
        is_list = isinstance(child, nn.ModuleList | nn.Sequential)
        if inside and not is_list and [*child.children()]:
            yield child
        else:
            yield from listed(child, is_list)

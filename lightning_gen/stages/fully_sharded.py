"""Training with the weights in shards over the processes."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from pytorch_lightning.overrides.distributed import _sync_module_states
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from lightning_gen.families.shards import in_shards_like, shard, whole


class FullyShardedStrategy(DDPStrategy):
    """While it trains each process keeps a part of the weights, gradients, optimizer state and average.

    What measures and draws has whole weights, within `whole_weights`; so has each checkpoint, which is that of DDP.
    ZeRO (Rajbhandari et al., 2020), https://arxiv.org/abs/1910.02054; PyTorch FSDP (Zhao et al., 2023),
    https://arxiv.org/abs/2304.11277
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.blank: dict[str, nn.Module] = {}  # model and ema without weights, while those are in shards
        self.measuring = ExitStack()

    def configure_ddp(self) -> None:
        """Split model and average, in the place of DDP's wrapper."""
        module, mesh = self.lightning_module, init_device_mesh(self.root_device.type, (self.world_size,))
        _sync_module_states(module)
        module.to(memory_format=torch.contiguous_format)  # the only one that fully_shard takes
        for name in ("model", "ema"):
            if (model := getattr(module, name)) is not None:
                self.blank[name] = without_weights(model)
                for net in model.networks():
                    shard(net, mesh)

    def gathered(self, name: str) -> nn.Module:
        """The model or its average with whole weights, apart from the shards; called on all ranks."""
        model, copied = getattr(self.lightning_module, name), copy.deepcopy(self.blank[name])
        copied.load_state_dict({key: whole(value) for key, value in model.state_dict().items()}, assign=True)
        for part, origin in zip(copied.modules(), model.modules(), strict=True):
            part.training = origin.training
        return copied

    @contextmanager
    def whole_weights(self) -> Iterator[None]:
        """Within, model and average of the module have whole weights; entered by all ranks, left by each alone."""
        module, blank = self.lightning_module, self.blank
        shards = {name: getattr(module, name) for name in blank}
        copies = {name: self.gathered(name) for name in blank}
        self.blank = {}  # within another one all is whole already
        try:
            exchange(module, copies)
            yield
        finally:
            exchange(module, shards)
            self.blank = blank

    def on_validation_start(self) -> None:
        """Gather: ranks have different numbers of batches, and what callbacks measure rank 0 may measure alone."""
        self.measuring.enter_context(self.whole_weights())

    def on_validation_end(self) -> None:
        """Go on with the shards."""
        self.measuring.close()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Give all ranks the buffers of rank 0, as DDP does."""
        for buffer in self.lightning_module.model.buffers():
            torch.distributed.broadcast(buffer, 0)

    def on_train_end(self) -> None:
        """Leave the module with whole weights, which the evaluation uses."""
        exchange(self.lightning_module, {name: self.gathered(name) for name in self.blank})
        self.blank, self.optimizers = {}, []

    def teardown(self) -> None:
        """End; where training was stopped the shards stay on their device, for they are no whole weights to move."""
        module = self._lightning_module
        self._lightning_module = None if self.blank else module
        super().teardown()
        self._lightning_module = module

    def lightning_module_state_dict(self) -> dict[str, Tensor]:
        """Whole weights, on rank 0 alone; called on all ranks."""
        state = {}
        for key, value in self.lightning_module.state_dict().items():
            tensor = whole(value)
            if self.is_global_zero:
                state[key] = tensor.cpu()
        return state

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """The state with whole tensors, on rank 0 alone, numbered as without shards; called on all ranks."""
        state = super().optimizer_state(optimizer)
        tensors = {}
        for number, entries in state["state"].items():
            complete = {key: whole(value) for key, value in entries.items()}
            if self.is_global_zero:
                tensors[number] = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in complete.items()}
        return {**state, "state": tensors}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Each rank's part of the state in a checkpoint, of this strategy or of any other."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            parts = {
                number: {key: in_shards_like(value, parameters[number]) for key, value in entries.items()}
                for number, entries in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": parts})


def without_weights(model: nn.Module) -> nn.Module:
    """A copy whose parameters have a shape, and no memory."""
    parameters = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, parameters)


def exchange(module: nn.Module, models: Mapping[str, nn.Module]) -> None:
    """Give the module these models."""
    for name, model in models.items():
        setattr(module, name, model)

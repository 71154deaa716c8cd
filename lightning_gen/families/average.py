"""The exponential moving average of a model's weights, kept as a second model."""

import torch
from torch import nn

from lightning_gen.families.shards import local


class Average:
    """ema <- d ema + (1 - d) model after each optimizer step; buffers are copied.

    Args:
        ema: the averaged model, of the same class as model.
        model: the trained model.
        decay: d, in [0, 1).
        warmup: whether d is min(decay, (1 + n) / (10 + n)) at step n.
    """

    def __init__(self, ema: nn.Module, model: nn.Module, decay: float, warmup: bool) -> None:
        self.decay, self.warmup = decay, warmup
        # To collect the tensors at each step would take longer than the average.
        self.parameters = [local(p) for p in ema.parameters()], [local(p) for p in model.parameters()]
        self.buffers = list(zip(ema.buffers(), model.buffers(), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Average the weights after optimizer step number `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay
        torch._foreach_lerp_(*self.parameters, 1 - decay)
        for target, source in self.buffers:
            target.copy_(source)

"""Sampling of autoregressive models, one value after the other."""

import math
from typing import Any

import torch
from torch import Tensor

from lightning_gen.models import Autoregressive
from lightning_gen.randomness import Source
from lightning_gen.samplers.base import Stepwise, Transition


class Sequential(Stepwise):
    """x_i ~ p(x_i | x_<i) for i = 1, ..., D: an exact sample. The plan is as long as x.

    The network keeps what it has computed: a step costs what the last value changes.
    Pixel recurrent neural networks (van den Oord et al., 2016), https://arxiv.org/abs/1601.06759
    """

    needs = (Autoregressive,)
    supports = ("binary", "levels")
    independent = True

    def plan(self, model: Autoregressive, shape: tuple[int, ...]) -> list[Transition]:
        """One transition a value, with its index as coefficient; the network is called once a site."""
        joint = model.net.joint
        return [Transition(0.0, 0.0, (float(i),), int(i % joint == 0)) for i in range(math.prod(shape[1:]))]

    def start(self, model: Autoregressive, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Zeros, (B, ...), which no law depends on."""
        return torch.zeros(shape, device=None if generator is None else generator.device)

    def step(
        self, model: Autoregressive, x: Tensor, transition: Transition, carry: Any, generator: Source
    ) -> tuple[Tensor, Any]:
        """x with one more value drawn, (B, ...), and what the model keeps."""
        groups = model.begin(x, generator) if carry is None else carry
        return model.fill(groups, x, int(transition.coefficients[0]), generator), groups

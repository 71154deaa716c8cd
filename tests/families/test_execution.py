"""Activation checkpointing: the same gradients bit for bit from fewer kept bytes."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from lightning_gen.families import DDPM, EBM
from lightning_gen.families.cost import Activations
from lightning_gen.families.execution import blocks, prepare
from lightning_gen.losses import SlicedScoreMatching
from lightning_gen.nets import MLP, NCSNpp, UNet
from lightning_gen.nets.layers import Residual

adam = partial(torch.optim.Adam, lr=1e-3)
unet = partial(UNet, (1, 8, 8), channels=8, multipliers=(1, 2), blocks=1, attention=(4,), groups=4)


def gradients(module):
    """Gradients of one loss with dropout, and the bytes that wait for the backward pass."""
    torch.manual_seed(1)
    x = torch.rand(4, 1, 8, 8) * 2 - 1
    kept = Activations([*module.parameters()])
    with kept:
        loss = module.loss(module.model, x, torch.Generator().manual_seed(2)).mean()
    loss.backward()
    return [p.grad for p in module.model.parameters()], kept.peak


def pair(make):
    """A family with networks that keep all activations, and a copy that keeps those between blocks."""
    plain = make()
    slim = copy.deepcopy(plain)
    slim.checkpointing = True
    prepare(slim)
    return plain, slim


@pytest.mark.parametrize(
    "net", [unet, partial(NCSNpp, (1, 8, 8), channels=8, multipliers=(1, 2), attention=(4,), groups=4)]
)
def test_gradients_are_the_same_bit_for_bit_from_fewer_bytes(net):
    plain, slim = pair(lambda: DDPM(net(), adam, steps=10, shape=(1, 8, 8), value_range=(-1, 1)))
    (all_of_them, much), (again, little) = gradients(plain), gradients(slim)
    assert all(torch.equal(a, b) for a, b in zip(all_of_them, again, strict=True))
    assert little < 0.6 * much


def test_an_energy_is_refused():
    """Its loss takes a gradient within a gradient, where attention keeps other tensors than in a second pass."""
    loss = SlicedScoreMatching()
    energy = EBM(unet(), loss, adam, readout="product", checkpointing=True, shape=(1, 8, 8), value_range=(-1, 1))
    with pytest.raises(ValueError, match="checkpointing is true with EnergyNetwork"):
        prepare(energy)


def test_the_blocks_are_the_modules_of_several_layers_in_lists():
    assert {type(block) for block in blocks(unet())} >= {Residual} and nn.Conv2d not in map(type, blocks(unet()))
    assert blocks(nn.Sequential(nn.ModuleList([nn.Sequential(unet())]))) != []


def test_a_network_without_blocks_is_refused():
    with pytest.raises(ValueError, match="checkpointing is true, and MLP has no list"):
        blocks(MLP((2,), 8, 1))

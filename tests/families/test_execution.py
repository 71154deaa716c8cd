"""Activation checkpointing: the same gradients bit for bit from fewer kept bytes; and the memory format."""

import copy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lightning_gen.families import DDPM, EBM, GAN
from lightning_gen.families.cost import Activations
from lightning_gen.families.execution import blocks, prepare
from lightning_gen.families.players import Player
from lightning_gen.losses import NonSaturating, SlicedScoreMatching
from lightning_gen.nets import DCGAN, MLP, NCSNpp, UNet
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


def formats(net):
    """Whether the convolutions of a network are channels_last; those of one channel are both."""
    kernels = [p for p in net.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert kernels
    return {p.is_contiguous(memory_format=torch.channels_last) for p in kernels}


def test_convolutions_are_channels_last_with_the_same_gradients_to_rounding():
    torch.manual_seed(0)
    net = unet()
    make = partial(DDPM, optimizer=adam, steps=10, shape=(1, 8, 8), value_range=(-1, 1), ema_decay=0.9)
    usual, other = make(copy.deepcopy(net)), make(net, channels_last=False)
    assert formats(usual.model) == formats(usual.ema) == {True} and formats(other.model) == {False}
    for a, b in zip(gradients(usual)[0], gradients(other)[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_both_networks_of_a_gan_are_channels_last():
    gan = GAN(DCGAN((1, 8, 8), 4, 8, (1, 2)), adam, NonSaturating(), shape=(1, 8, 8), value_range=(-1, 1))
    assert formats(gan.critic) == {True} and formats(gan.model) == {True}


def test_apples_gpus_have_the_contiguous_format():
    module = DDPM(unet(), adam, steps=10, shape=(1, 8, 8), value_range=(-1, 1))
    module._trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("mps")))
    prepare(module)
    assert formats(module.model) == {False}


@pytest.mark.parametrize("fused", [True, False])
def test_a_state_of_another_memory_format_is_brought_to_the_weights(fused):
    """Fused Adam takes weights and state in the order of their memory: a run that goes on in the other format."""

    def player(net):
        made = Player("model", [*net.parameters()], None, partial(torch.optim.Adam, lr=0.1, fused=fused))
        made.build()
        return made

    def step(net, one):
        net(x).square().sum().backward()
        one.optimizer.step()
        one.optimizer.zero_grad()

    torch.manual_seed(0)
    x, nets = torch.randn(2, 3, 5, 5), [nn.Conv2d(3, 4, 3)]
    nets.append(copy.deepcopy(nets[0]))
    players = [player(net) for net in nets]
    for net, one in zip(nets, players, strict=True):
        step(net, one)
    nets[1].to(memory_format=torch.channels_last)
    players[1] = player(nets[1])
    players[1].optimizer.load_state_dict(copy.deepcopy(players[0].optimizer.state_dict()))
    for net, one in zip(nets, players, strict=True):
        step(net, one)
    torch.testing.assert_close(nets[1].weight, nets[0].weight, rtol=1e-4, atol=1e-5)

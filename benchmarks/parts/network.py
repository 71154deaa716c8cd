"""The networks of DDPM: operators, and whole steps with clipping, Adam and the average, against diffusers' recipe."""

import copy
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import yaml
from torch import Tensor, nn

from benchmarks.counting import flops, forward_and_backward
from benchmarks.table import Goal, Row, at_most, counted
from benchmarks.timing import ROOT, Run, matrix_rate, row, same, shares
from lightning_gen.config.instantiate import build
from lightning_gen.convert.to_diffusers import arguments, network_config, tensors
from lightning_gen.families import DDPM
from lightning_gen.families.average import Average

LEVELS, DECAY, CLIP = 1000, 0.9999, 1.0


def node(name: str, shape: tuple[int, ...], **changes: Any) -> dict[str, Any]:
    """The config of a network of the experiments at a shape."""
    return {**yaml.safe_load((ROOT / f"experiments/net/{name}.yaml").read_text()), "shape": list(shape), **changes}


def cifar(run: Run) -> dict[str, Any]:
    """ddpm_cifar's network; a tiny one of the same kind."""
    return node("unet_cifar", (3, 32, 32), **({"channels": 8, "groups": 4, "blocks": 1} if run.tiny else {}))


def diffusers_net(config: dict[str, Any], net: nn.Module) -> nn.Module:
    """diffusers' network with the weights of ours."""
    from diffusers import UNet2DModel

    theirs = UNet2DModel(**{key: value for key, value in network_config(config).items() if key[0] != "_"})
    theirs.load_state_dict(tensors(net.state_dict(), arguments(config)["blocks"]))
    return theirs


class Ours:
    """A whole step of DDPM: loss, gradient, clipping, fused Adam, average."""

    def __init__(self, net: nn.Module) -> None:
        adam = partial(torch.optim.Adam, lr=1e-5, fused=True)
        self.module = DDPM(net, adam, steps=LEVELS, ema_decay=DECAY, value_range=(-1.0, 1.0))
        self.parameters = list(self.module.model.parameters())
        self.optimizer = adam(self.parameters)
        self.average = Average(self.module.ema, self.module.model, DECAY, False)
        self.generator, self.steps = torch.Generator().manual_seed(0), 0

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """L_simple, ()."""
        return self.module.loss(self.module.model, x, generator).mean()

    def step(self, x: Tensor) -> None:
        """One."""
        self.optimizer.zero_grad()
        self.loss(x, self.generator).backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters])
        torch.nn.utils.clip_grads_with_norm_(self.parameters, CLIP, norm)
        self.optimizer.step()
        self.steps += 1
        self.average.update(self.steps)


class Recipe:
    """The same as diffusers' examples/unconditional_image_generation/train_unconditional.py has it, on one process."""

    def __init__(self, net: nn.Module) -> None:
        from diffusers import DDPMScheduler
        from diffusers.training_utils import EMAModel

        self.net, self.scheduler = net, DDPMScheduler(LEVELS, beta_schedule="linear")
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
        self.average = EMAModel(net.parameters(), decay=DECAY, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
        self.generator = torch.Generator().manual_seed(0)

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """L_simple, (), with draws in our order."""
        k = torch.randint(1, LEVELS + 1, (len(x),), generator=generator) - 1
        noise = torch.randn(x.shape, generator=generator)
        return nn.functional.mse_loss(self.net(self.scheduler.add_noise(x, noise, k), k).sample, noise)

    def step(self, x: Tensor) -> None:
        """One."""
        self.loss(x, self.generator).backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.step(self.net.parameters())


def check(ours: Ours, theirs: Recipe, x: Tensor) -> None:
    """ValueError where equal weights and draws give different losses."""
    losses = []
    for one, net in ((ours, ours.module.model), (theirs, theirs.net)):
        net.eval()
        with torch.no_grad():
            losses.append(one.loss(x, torch.Generator().manual_seed(1)))
        net.train()
    same("the loss", *losses)


def least_seconds(one: Ours, x: Tensor) -> float:
    """The arithmetic of a step at the rate of a large matrix product, s."""
    return flops(lambda: one.loss(x, one.generator).backward()) / matrix_rate()


def program(recipe: type[Ours] | type[Recipe], config: dict[str, Any], batch: int) -> Callable[[], object]:
    """A step of the one or the other from the same weights."""
    torch.manual_seed(0)
    net = build(config)
    made = recipe(net if recipe is Ours else diffusers_net(config, net))
    return partial(made.step, torch.randn(batch, *config["shape"]))


def steps(
    run: Run,
    what: str,
    config: dict[str, Any],
    batch: int,
    goal: Goal,
    programs: bool = False,
    last: bool = False,
) -> Row:
    """A whole step against diffusers' recipe of the same weights.

    With `programs` in a process each, as their users run them; with `last` theirs in our memory format, too.
    """
    net, x = build(config), torch.randn(batch, *config["shape"])
    peers = {"diffusers": Recipe(diffusers_net(config, net))}
    ours = Ours(net)
    check(ours, peers["diffusers"], x)
    if last:
        other = diffusers_net(config, net).to(memory_format=torch.channels_last)
        peers["diffusers, channels_last"] = Recipe(other)
    calls: dict[str, Callable[[], object]] = {name: partial(peer.step, x) for name, peer in peers.items()}
    limit = ("its arithmetic at the rate of a matrix product", least_seconds(ours, x))
    kinds: dict[str, type[Ours] | type[Recipe]] = {"": Ours, "diffusers": Recipe}
    builds = {name: partial(program, kind, config, batch) for name, kind in kinds.items()} if programs else None
    return run.row(what, partial(ours.step, x), calls, limit, goal, programs=builds)


def counts(run: Run) -> Iterator[Row]:
    """Operators of ddpm_cifar's network forward and backward, with diffusers' of the same weights."""
    config = cifar(run)
    net = build(config)
    theirs, x, t = diffusers_net(config, net), torch.randn(2, 3, 32, 32), torch.tensor([3.0, 500.0])

    ours, peer = forward_and_backward(lambda: net(x, t)), forward_and_backward(lambda: theirs(x, t).sample)
    what, peers = "CIFAR-10 U-Net, operators forward + backward", {"diffusers": peer.total}
    yield counted(what, ours.total, "", peers, goal=at_most(780, "ours"), reason=ours.most())


def digits(run: Run) -> Iterator[Row]:
    """Steps of the digits' network at 8x8 and 16x16, batches of 128."""
    batch = run.pick(128, 2)
    for size in (8, 16):
        config = node("unet_digits", (1, size, size))
        yield steps(run, f"{size}x{size} U-Net (unet_digits), a step of {batch}", config, batch, at_most(0.9))


def natural(run: Run) -> Iterator[Row]:
    """Steps of ddpm_cifar's network, batches of 8, against the recipe as it is, and with memory and format of ours."""
    batch = run.pick(8, 2)
    run = replace(run, least=7)  # the medians of three rounds differed by a tenth between two sittings
    what = f"CIFAR-10 U-Net, a step of {batch}"
    yield steps(run, what, cifar(run), batch, at_most(0.85), programs=True)
    yield steps(run, f"{what}, theirs channels_last, memory kept by both", cifar(run), batch, at_most(0.85), last=True)


def lucidrains(run: Run) -> Iterator[Row]:
    """denoising-diffusion-pytorch's U-Net of the same widths, forward and backward, for each 10^9 operations."""
    from denoising_diffusion_pytorch import Unet

    config, x, t = cifar(run), torch.randn(run.pick(8, 2), 3, 32, 32), torch.tensor([500.0])
    net = build(config)
    width, multipliers = config["channels"], tuple(config["multipliers"])
    theirs = Unet(width, dim_mults=multipliers, dropout=config["dropout"], full_attn=(False, True, False, False))
    nets = {"": net, "denoising-diffusion-pytorch": theirs}
    calls = {name: partial(lambda f: f(x, t.expand(len(x))).square().mean().backward(), f) for name, f in nets.items()}
    work = {name: flops(call) for name, call in calls.items()}
    seconds = {name: [1e9 * s / work[name] for s in found] for name, found in run.rounds(calls).items()}
    limit = "a matrix product"
    seconds[limit] = [1e9 / matrix_rate()] * len(seconds[""])
    amounts = " and ".join(f"{value / 1e9:,.0f}" for value in work.values())
    what = f"CIFAR-10 U-Net forward + backward, 10^9 operations (of {amounts})"
    yield row(what, seconds, list(nets)[1:], limit, at_most(1.0), reason=lambda: shares(calls[""]))


def noise_loss(net: nn.Module, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Of a network that estimates the noise, ()."""
    return (net(x, t) - noise).square().mean()


def flow_loss(net: nn.Module, x: Tensor, *_: Tensor) -> Tensor:
    """-log p(x) of a flow but for a constant, nats, ()."""
    z, volume = net(x)
    return (z.square().sum(1) / 2 - volume).mean()


def compiled(run: Run) -> Iterator[Row]:
    """torch.compile of the loss with its noise as input, and its gradient, over the same not compiled: all convolutions
    in our memory format, compiled anew but for headers that the compiler keeps."""
    batch, still = run.pick(128, 2), {"dropout": 0.0}
    cases = (
        ("8x8 U-Net (unet_digits)", {**node("unet_digits", (1, 8, 8)), **still}, batch, noise_loss),
        ("CIFAR-10 U-Net", {**cifar(run), **still}, run.pick(8, 2), noise_loss),
        ("8x8 Glow (glow_digits)", node("glow_digits", (1, 8, 8)), batch, flow_loss),
        ("RealNVP of the plane (realnvp)", node("realnvp", (2,)), run.pick(256, 2), flow_loss),
    )
    for what, config, size, loss in cases:
        with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=folder):
            yield from compilation(run, what, config, size, loss)


def compilation(run: Run, what: str, config: dict[str, Any], size: int, loss: Callable[..., Tensor]) -> Iterator[Row]:
    """The rows of one network and its loss on batches of `size`."""
    net = build(config).to(memory_format=torch.channels_last)
    other = copy.deepcopy(net)
    x, noise, t = torch.randn(2, size, *config["shape"]).unbind() + (torch.full((size,), 500.0),)
    fast = torch.compile(loss, dynamic=False, backend="aot_eager" if run.tiny else "inductor")
    start = time.perf_counter()
    fast(net, x, noise, t).backward()
    took = time.perf_counter() - start
    values = [f(n, x, noise, t).detach() for f, n in ((fast, net), (loss, other))]
    same(f"the compiled loss of {what}", *values)
    made = run.row(
        f"{what}, loss and gradient of {size}, compiled",
        lambda: fast(net, x, noise, t).backward(),
        {"not compiled": lambda: loss(other, x, noise, t).backward()},
    )
    yield made
    saved = (made.theirs or 0) - (made.ours or 0)
    pays = f"pays after {1e3 * took / saved:,.0f} steps" if saved > 0 else "never pays"
    yield counted(f"{what}, compilation, by the clock", took, f"s, {pays}", rounds=1)


CASES = (counts, digits)
LONG = (natural, lucidrains, compiled)

"""What a network is for: how it is called, what it returns, and which energy is made of it."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_gen.check.law import no_more
from lightning_gen.models import Flow
from lightning_gen.models.base import declared
from lightning_gen.models.energy import twice_differentiable
from lightning_gen.nets import Causal, EncoderDecoder, GeneratorCritic
from lightning_gen.nets.flows import FlowNetwork

Shapes = dict[str, Sequence[tuple[int, ...]]]
Outputs = dict[str, Tensor]


class Batch(NamedTuple):
    """Inputs of a network: x (n, ...), t (n,), label (n,) or None."""

    x: Tensor
    t: Tensor
    label: Tensor | None

    def double(self) -> "Batch":
        """The batch in double precision."""
        return Batch(self.x.double(), self.t.double(), self.label)


class Role(NamedTuple):
    """A kind of network.

    Args:
        title: in words.
        outputs: (network, batch) -> tensors by name, the samples first.
        shapes: (network, shape of x, n) -> the shapes that each output may have.
        timed: whether it takes t.
        classes: the number of classes that a network declares, None without; None for one that takes no label.
        energy: (network, x) -> the energy that is made of it, (n,), in double precision; None for none.
        definition: (network, batch) -> what was seen of what makes it one; None where there is nothing to see.
    """

    title: str
    outputs: Callable[[nn.Module, Batch], Outputs]
    shapes: Callable[[nn.Module, tuple[int, ...], int], Shapes]
    timed: bool = False
    classes: Callable[[nn.Module], int | None] | None = None
    energy: Callable[[nn.Module, Tensor], Tensor] | None = None
    definition: Callable[[nn.Module, Batch], str] | None = None


def classes_of(net: nn.Module) -> int | None:
    """The number of classes that a network declares; None where it does not."""
    return declared(net, "classes")


def plain(net: nn.Module, batch: Batch) -> Outputs:
    """net(x, t), or net(x, t, label)."""
    return {"output": net(batch.x, batch.t) if batch.label is None else net(batch.x, batch.t, batch.label)}


def plain_energy(net: nn.Module, x: Tensor) -> Tensor:
    """f, or 1/2 ||x - f||^2, of f = net(x, 0)."""
    f = net(x, x.new_zeros(len(x)))
    return f if f.ndim == 1 else 0.5 * (x - f).flatten(1).square().sum(1)


def causal(net: Causal, batch: Batch) -> Outputs:
    """Outputs at all sites, of whole numbers."""
    return {"output": net(whole_numbers(net, batch.x))}


def whole_numbers(net: Causal, x: Tensor) -> Tensor:
    """Levels, (n, D), made of real numbers."""
    return x.flatten(1).mul(2).round().abs() % net.levels


def flow(net: FlowNetwork, batch: Batch) -> Outputs:
    """z and log |det dz/dx|, and x again."""
    z, log_det = net(batch.x)
    return {"z": z, "log_det": log_det, "inverse": net.inverse(z)}


def autoencoder(net: EncoderDecoder, batch: Batch) -> Outputs:
    """The code, and what is decoded of its means."""
    code = net.encode(batch.x)
    return {"encode(x)": code, "decode(z)": net.decode(code[:, : net.latent])}


def pair(net: GeneratorCritic, batch: Batch) -> Outputs:
    """G(z), and the critic's value of x."""
    z = batch.x.flatten(1)[:, :1] * torch.linspace(0.5, 1.5, net.generator.latent, dtype=batch.x.dtype)
    more = () if batch.label is None else (batch.label,)
    return {"generator(z)": net.generator(z, *more), "critic(x)": net.critic(batch.x, *more)}


def invertible(net: FlowNetwork, batch: Batch) -> str:
    """f^-1(f(x)) is x, and the log determinant that of the Jacobian, in double precision."""
    net, x = copy.deepcopy(net).double(), batch.x[:1].double()
    with torch.no_grad():
        z, log_det = net(x)
        error = float((net.inverse(z) - x).abs().max())
    no_more(error, 1e-5, f"x and f^-1(f(x)) differ by {error:.2g}")
    jacobian = torch.autograd.functional.jacobian(lambda y: net(y.view_as(x))[0].flatten(), x.flatten())
    true = float(torch.linalg.slogdet(jacobian).logabsdet)
    told = f"log |det dz/dx| is {float(log_det):.6g}, that of the Jacobian {true:.6g}"
    no_more(abs(float(log_det) - true), 1e-5 * max(1.0, abs(true)), told)
    return f"f^-1(f(x)) is x within {error:.1g}; {told}"


@torch.no_grad()
def looks_back(net: Causal, batch: Batch) -> str:
    """Outputs at a site depend on sites before it alone, and `step` gives those of `forward`."""
    x = whole_numbers(net, batch.x)
    for ordering in range(net.orderings):
        order, out = net.order(ordering), net(x, ordering)
        for k in (0, net.sites // 2, net.sites - 1):
            other = x.clone().unflatten(1, (net.sites, net.joint))
            other[:, order[k:]] = (other[:, order[k:]] + 1) % net.levels
            change = float((net(other.flatten(1), ordering) - out)[:, order[k]].abs().max())
            no_more(change, 0.0, f"the output at site {k} changes by {change:.2g} with values from there on")
        cache, filled = net.begin(x, ordering), torch.zeros_like(x).unflatten(1, (net.sites, net.joint))
        for k in range(net.sites):
            change = float((net.step(cache, filled.flatten(1), k) - out[:, order[k]]).abs().max())
            no_more(change, 1e-3, f"step and forward differ by {change:.2g} at site {k}")
            filled[:, order[k]] = x.unflatten(1, (net.sites, net.joint))[:, order[k]]
    return f"each of {net.sites} sites looks back alone, and step gives what forward does"


PLAIN = Role(
    "a network (x, t, label)",
    plain,
    lambda net, shape, n: {"output": [(n, *shape), (n,)]},
    timed=True,
    classes=classes_of,
    energy=plain_energy,
)
ROLES: tuple[tuple[type, Role], ...] = (
    (
        Causal,
        Role(
            "an autoregressive network",
            causal,
            lambda net, shape, n: {"output": [(n, net.sites, net.law.size)]},
            definition=looks_back,
        ),
    ),
    (
        FlowNetwork,
        Role(
            "an invertible network",
            flow,
            lambda net, shape, n: {"z": [(n, math.prod(shape))], "log_det": [(n,)], "inverse": [(n, *shape)]},
            energy=lambda net, x: Flow(net).energy(x),
            definition=invertible,
        ),
    ),
    (
        EncoderDecoder,
        Role(
            "an encoder and decoder",
            autoencoder,
            lambda net, shape, n: {"encode(x)": [(n, 2 * net.latent)], "decode(z)": [(n, *shape)]},
        ),
    ),
    (
        GeneratorCritic,
        Role(
            "a generator and critic",
            pair,
            lambda net, shape, n: {"generator(z)": [(n, *shape)], "critic(x)": [(n,)]},
            classes=lambda net: classes_of(net.generator),
        ),
    ),
)


def role_of(net: nn.Module) -> Role:
    """What the network is for, by its class or its methods."""
    return next((role for kind, role in ROLES if isinstance(net, kind)), PLAIN)


def difference(a: Outputs, b: Outputs) -> float:
    """The largest difference, relative to the largest value above 1e-6."""
    return max(float((a[key] - b[key]).abs().max() / b[key].abs().max().clamp(min=1e-6)) for key in b)


def scalar(outputs: Outputs) -> bool:
    """Whether a network has one number for each sample."""
    return all(value.ndim == 1 for value in outputs.values())


def rows(outputs: Outputs, index: Any) -> Outputs:
    """Some of the samples."""
    return {key: value[index] for key, value in outputs.items()}


def along(role: Role, net: nn.Module, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the second derivative of the energy at x (n, ...) in the direction v, (n,) each."""
    x = x.requires_grad_()
    with twice_differentiable():
        (g,) = torch.autograd.grad(role.energy(net, x).sum(), x, create_graph=True)
        # Of an energy that is linear in x, g does not depend on x: with 0 x the second derivative is 0, no error.
        slope = (g * v).flatten(1).sum(1) + 0 * x.flatten(1).sum(1)
        (h,) = torch.autograd.grad(slope.sum(), x)
    return slope.detach(), (h * v).flatten(1).sum(1)

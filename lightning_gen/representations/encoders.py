"""Codes of x by models: hidden units, posterior means, a U-Net's bottleneck, latents of flows and of the ODE."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_gen.likelihood import ODELikelihood
from lightning_gen.likelihood.ode import RULES, ODEPath
from lightning_gen.models import Conditionals, Encoded, Flow, Model, Requires, Scored
from lightning_gen.models.base import declared
from lightning_gen.options import Checked, UnitInterval
from lightning_gen.process import instant


class Representation(Checked, Requires, ABC):
    """x (B, ...) -> codes (B, L), and for some codes -> x."""

    role = "representation"

    name: str
    reconstructs = False

    @abstractmethod
    def encode(self, model: Scored, x: Tensor, generator: torch.Generator) -> Tensor:
        """Codes, (B, L)."""

    def size(self, model: Scored, shape: tuple[int, ...]) -> int:
        """L, the number of values of a code of one x of this shape: as many as x has."""
        return math.prod(shape)

    def reconstruct(self, model: Scored, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        """x, (B, *shape), from codes (B, L); ValueError for a representation without a decoder."""
        raise ValueError(f"representation is {self.name}, expected one with a decoder: choose hidden, posterior or ode")

    def describe(self) -> dict[str, Any]:
        """Name and options, as a protocol stores them."""
        return {"representation": self.name}


class Hidden(Representation):
    """p(h=1|v) of a model with hidden units; the decoder is E[v|h]."""

    name = "hidden"
    reconstructs = True
    needs = (Conditionals,)

    def encode(self, model: Conditionals, x: Tensor, generator: torch.Generator) -> Tensor:
        """p(h=1|x), (B, H)."""
        return model.hidden(x)

    def size(self, model: Conditionals, shape: tuple[int, ...]) -> int:
        """H."""
        return model.hidden(torch.zeros(1, *shape).to(next(model.parameters()))).shape[1]

    def reconstruct(self, model: Conditionals, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        """E[v|h = codes], (B, *shape)."""
        return model.visible(codes)


class PosteriorMean(Representation):
    """Mean of q(z|x) of a model with an encoder; the decoder is E[x|z]."""

    name = "posterior"
    reconstructs = True
    needs = (Encoded,)

    def encode(self, model: Encoded, x: Tensor, generator: torch.Generator) -> Tensor:
        """mu(x), (B, latent)."""
        return model.posterior(x)[0]

    def size(self, model: Encoded, shape: tuple[int, ...]) -> int:
        """The number of latent variables."""
        return model.latent

    def reconstruct(self, model: Encoded, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        """E[x|z = codes], (B, *shape)."""
        return model.visible(codes)


class FlowLatent(Representation):
    """z = f(x) of a normalising flow, whole levels as they are; the decoder is x = f^-1(z)."""

    name = "flow"
    reconstructs = True
    needs = (Flow,)
    supports = ("real",)

    def encode(self, model: Flow, x: Tensor, generator: torch.Generator) -> Tensor:
        """f(x), (B, D)."""
        return model.encode(x)[0]

    def reconstruct(self, model: Flow, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        """f^-1(codes), (B, *shape)."""
        return model.decode(codes)


class Bottleneck(Representation):
    """Feature maps at the lowest resolution of a U-Net, averaged over pixels, for x_t = alpha_t x + sigma_t noise.

    A conditional model gets the label for none. A process without noise gets x itself.
    Denoising diffusion autoencoders are unified self-supervised learners (Xiang et al., 2023),
    https://arxiv.org/abs/2303.09769

    Args:
        t: time, in [0, 1]; a medium noise level is best.
    """

    name = "bottleneck"
    needs = (Scored,)
    supports = ("real",)

    def __init__(self, t: UnitInterval = 0.1) -> None:
        self.t = t

    def check(self, model: Scored) -> None:
        """ValueError for a model without a U-Net, and for t below the first step of a discrete process."""
        super().check(model)
        if not any(declared(net, "middle") for net in model.networks()):
            names = [type(net).__name__ for net in model.networks()] or [type(model).__name__]
            raise ValueError(f"Bottleneck needs a U-Net, got {', '.join(names)}: write null, or ODELatent")
        steps = model.process.steps
        if steps is not None and self.t * steps < 1:
            raise ValueError(
                f"Bottleneck.t is {self.t}, expected at least {1 / steps}, the first of {steps} steps: increase it"
            )

    def encode(self, model: Scored, x: Tensor, generator: torch.Generator) -> Tensor:
        """(B, channels of the middle)."""
        t, maps = instant(self.t, x), []
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        net = next(net for net in model.networks() if declared(net, "middle"))
        if (classes := declared(net, "classes")) is not None:
            model = model.with_label(torch.full((len(x),), classes - 1, device=x.device))
        hook = net.middle[-1].register_forward_hook(lambda _, __, out: maps.append(out.mean((2, 3))))
        try:
            # A compiled network ignores hooks that are registered after its compilation.
            with torch.compiler.set_stance("force_eager"):
                model.output(model.process.perturb(x, t, noise), model.readings([self.t])[0])
        finally:
            hook.remove()
        return maps[0].detach().float()

    def describe(self) -> dict[str, Any]:
        return {"representation": self.name, "t": self.t, "pooling": "mean over pixels", "label": "none"}


class ODELatent(Representation):
    """x_1 / sigma(1), x_1 the solution of the probability-flow ODE from x; the decoder solves it in reverse.

    Score SDE (Song et al., 2021), section 4.3, https://arxiv.org/abs/2011.13456

    Args:
        flow: solver with equal steps; null for heun with 20 steps.
    """

    name = "ode"
    reconstructs = True
    needs = (Scored,)
    supports = ("real",)

    def __init__(self, flow: ODELikelihood | None = None) -> None:
        self.flow = ODELikelihood("heun", steps=20) if flow is None else flow
        if self.flow.solver not in RULES:
            raise ValueError(
                f"ODELatent.flow.solver is {self.flow.solver}, expected one with equal steps: choose rk4, heun or euler"
            )

    def check(self, model: Scored) -> None:
        """ValueError for a process whose noise does not grow, and for a conditional model."""
        super().check(model)
        self.flow.check(model)
        if any(declared(net, "classes") is not None for net in model.networks()):
            raise ValueError("ODELatent needs a model without labels, got a conditional one: choose Bottleneck")

    def path(self, model: Scored, x: Tensor, d: int) -> ODEPath:
        """The ODE for inputs like x of d dimensions."""
        return ODEPath(model, self.flow.first_time(model.process), d, x.dtype)

    def solution(self, path: ODEPath, limits: Sequence[float], z: Tensor) -> Tensor:
        """z at the second of the limits, from z at the first, like z; no directions: the divergence is not needed."""
        return self.flow.fixed(lambda u, z: path.slope(u, z, []), *limits, z, None)[0]

    def encode(self, model: Scored, x: Tensor, generator: torch.Generator) -> Tensor:
        """x_1 / sigma(1), (B, d)."""
        path = self.path(model, x, x[0].numel())
        z = self.solution(path, path.limits, x.double() / path.scales[0])
        return (z * path.scales[1] / model.process.prior_sigma).flatten(1).to(x.dtype)

    def reconstruct(self, model: Scored, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        """x at t_start, (B, *shape)."""
        path = self.path(model, codes, codes.shape[1])
        start = codes.double().view(-1, *shape) * model.process.prior_sigma / path.scales[1]
        z = self.solution(path, path.limits[::-1], start)
        return (z * path.scales[0]).to(codes.dtype)

    def describe(self) -> dict[str, Any]:
        return {"representation": self.name, "solver": self.flow.solver, "steps": self.flow.steps}


def representation_of(model: Model) -> Representation:
    """The first of Hidden, PosteriorMean, Bottleneck and ODELatent that fits the model; ValueError if none does."""
    for representation in (Hidden(), PosteriorMean(), Bottleneck(), ODELatent()):
        try:
            representation.check(model)
        except (TypeError, ValueError):
            continue
        return representation
    raise ValueError(
        f"callbacks.representations got a {type(model).__name__}, expected hidden units, an encoder, a U-Net or "
        "a process with noise that grows: write callbacks.representations=null"
    )

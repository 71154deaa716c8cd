"""What models make of x besides samples: hidden units, posterior means, a U-Net's middle, the end of the ODE's path."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from lightning_gen.likelihood import ODELikelihood
from lightning_gen.likelihood.ode import RULES, ODEPath
from lightning_gen.models import Conditionals, Encoded, Model, Requires, Scored
from lightning_gen.models.requirements import declared
from lightning_gen.options import Checked, UnitInterval
from lightning_gen.process import instant


class Representation(Checked, Requires, ABC):
    """x (B, ...) -> codes (B, L), and back where there is a way."""

    role = "representation"

    name: str
    reconstructs = False

    @abstractmethod
    def encode(self, model: Scored, x: Tensor, generator: torch.Generator) -> Tensor:
        """Codes, (B, L)."""

    def reconstruct(self, model: Scored, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        """x again, (B, *shape), from codes (B, L)."""
        raise ValueError(f"{self.name} codes lead back to no x")

    def describe(self) -> dict[str, Any]:
        """What a protocol stores."""
        return {"representation": self.name}


class Hidden(Representation):
    """p(h=1|v) of a model with hidden units; back by E[v|h]."""

    name = "hidden"
    reconstructs = True
    needs = (Conditionals,)

    def encode(self, model: Conditionals, x: Tensor, generator: torch.Generator) -> Tensor:
        """p(h=1|x), (B, H)."""
        return model.hidden(x)

    def reconstruct(self, model: Conditionals, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        """E[v|h = codes], (B, *shape)."""
        return model.visible(codes)


class PosteriorMean(Representation):
    """The mean of q(z|x); back by E[x|z]."""

    name = "posterior"
    reconstructs = True
    needs = (Encoded,)

    def encode(self, model: Encoded, x: Tensor, generator: torch.Generator) -> Tensor:
        """mu(x), (B, latent)."""
        return model.posterior(x)[0]

    def reconstruct(self, model: Encoded, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        """E[x|z = codes], (B, *shape)."""
        return model.visible(codes)


class Bottleneck(Representation):
    """The maps between the two ways of a U-Net, averaged over pixels, of x_t = alpha_t x + sigma_t noise.

    Of a conditional model without a label, which would be in the codes. A process without noise takes x itself.
    Denoising diffusion autoencoders are unified self-supervised learners (Xiang et al., 2023),
    https://arxiv.org/abs/2303.09769: neither least nor most noise is best.
    """

    name = "bottleneck"
    needs = (Scored,)
    supports = ("real",)

    def __init__(self, t: UnitInterval = 0.1) -> None:
        self.t = t

    def check(self, model: Scored) -> None:
        """Refuse a model without a U-Net, and a time without noise of a discrete process: ValueError."""
        super().check(model)
        if not any(declared(net, "middle") for net in model.networks()):
            names = [type(net).__name__ for net in model.networks()] or [type(model).__name__]
            raise ValueError(f"Bottleneck needs a U-Net, got {', '.join(names)}: write null, or ODELatent")
        steps = model.process.steps
        if steps is not None and self.t * steps < 1:
            raise ValueError(f"Bottleneck.t is {self.t}, and the first noise of {steps} steps is at t = {1 / steps}")

    def encode(self, model: Scored, x: Tensor, generator: torch.Generator) -> Tensor:
        """(B, channels of the middle)."""
        t, maps = instant(self.t, x), []
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        net = next(net for net in model.networks() if declared(net, "middle"))
        if (classes := declared(net, "classes")) is not None:
            model = model.with_label(torch.full((len(x),), classes - 1, device=x.device))
        hook = net.middle[-1].register_forward_hook(lambda _, __, out: maps.append(out.mean((2, 3))))
        try:
            # A compiled network would not see a hook that came after its compilation.
            with torch.compiler.set_stance("force_eager"):
                model.output(model.process.perturb(x, t, noise), model.readings([self.t])[0])
        finally:
            hook.remove()
        return maps[0].detach().float()

    def describe(self) -> dict[str, Any]:
        """Name, time and what labels were given."""
        return {"representation": self.name, "t": self.t, "pooling": "mean over pixels", "label": "none"}


class ODELatent(Representation):
    """Where the probability-flow ODE brings x: x_1 in units of the prior's deviation; back along the same path.

    Of the latent variables' dimension that x has. Score SDE (Song et al., 2021, section 4.3),
    https://arxiv.org/abs/2011.13456
    """

    name = "ode"
    reconstructs = True
    needs = (Scored,)
    supports = ("real",)

    def __init__(self, flow: ODELikelihood | None = None) -> None:
        self.flow = ODELikelihood("heun", steps=20) if flow is None else flow
        if self.flow.solver not in RULES:
            raise ValueError(
                f"ODELatent goes both ways in equal steps, got solver {self.flow.solver}: choose rk4, heun or euler"
            )

    def check(self, model: Scored) -> None:
        """Refuse a process whose noise does not grow, and a conditional model."""
        super().check(model)
        self.flow.check(model)
        if any(declared(net, "classes") is not None for net in model.networks()):
            raise ValueError("ODELatent needs a model without labels, got a conditional one: choose Bottleneck")

    def path(self, model: Scored, x: Tensor, d: int) -> ODEPath:
        """The path on which x lies."""
        return ODEPath(model, self.flow.first_time(model.process), d, x.dtype)

    def encode(self, model: Scored, x: Tensor, generator: torch.Generator) -> Tensor:
        """x_1 / sigma of the prior, (B, d)."""
        path = self.path(model, x, x[0].numel())
        slope = lambda u, z: path.slope(u, z, [])  # noqa: E731
        z, _ = self.flow.fixed(slope, *path.limits, x.double() / path.scales[0], None)
        return (z * path.scales[1] / model.process.prior_sigma).flatten(1).to(x.dtype)

    def reconstruct(self, model: Scored, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        """x at the beginning of the path, (B, *shape)."""
        path = self.path(model, codes, codes.shape[1])
        slope = lambda u, z: path.slope(u, z, [])  # noqa: E731
        start = codes.double().view(-1, *shape) * model.process.prior_sigma / path.scales[1]
        z, _ = self.flow.fixed(slope, *path.limits[::-1], start, None)
        return (z * path.scales[0]).to(codes.dtype)

    def describe(self) -> dict[str, Any]:
        """Name and solver."""
        return {"representation": self.name, "solver": self.flow.solver, "steps": self.flow.steps}


def representation_of(model: Model) -> Representation:
    """The first that it has of hidden units, posterior mean, bottleneck and ODE; ValueError where it has none."""
    for representation in (Hidden(), PosteriorMean(), Bottleneck(), ODELatent()):
        try:
            representation.check(model)
        except (TypeError, ValueError):
            continue
        return representation
    raise ValueError(
        f"callbacks.representations finds none in a {type(model).__name__}: there are no hidden units, no encoder, no "
        "U-Net and no path to noise; write callbacks.representations=null"
    )

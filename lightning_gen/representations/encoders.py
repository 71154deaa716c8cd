"""What models make of x besides samples: hidden units, posterior means, a U-Net's middle, the end of the ODE's path."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from lightning_gen.likelihood import Flow
from lightning_gen.likelihood.ode import RULES, Path
from lightning_gen.models import VAE, EnergyModel, HiddenUnits, ScoreModel
from lightning_gen.models.score import instant
from lightning_gen.options import Checked, UnitInterval


class Representation(Checked, ABC):
    """x (B, ...) -> codes (B, L), and back where there is a way."""

    name: str
    reconstructs = False

    @abstractmethod
    def check(self, model: ScoreModel) -> None:
        """Raise ValueError, one sentence, for a model without it."""

    @abstractmethod
    def encode(self, model: ScoreModel, x: Tensor, generator: torch.Generator) -> Tensor:
        """Codes, (B, L)."""

    def reconstruct(self, model: ScoreModel, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        """x again, (B, *shape), from codes (B, L)."""
        raise ValueError(f"{self.name} codes lead back to no x")

    def describe(self) -> dict[str, Any]:
        """What a protocol stores."""
        return {"representation": self.name}


class Hidden(Representation):
    """p(h=1|v) of a machine with hidden units; back by E[v|h]."""

    name = "hidden"
    reconstructs = True

    def check(self, model: ScoreModel) -> None:
        """Needs hidden units."""
        if not isinstance(model, HiddenUnits):
            raise ValueError(f"Hidden needs a machine with hidden units, got {type(model).__name__}: write null")

    def encode(self, model: HiddenUnits, x: Tensor, generator: torch.Generator) -> Tensor:
        """p(h=1|x), (B, H)."""
        return model.hidden(x)

    def reconstruct(self, model: HiddenUnits, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        """E[v|h = codes], (B, *shape)."""
        return model.visible(codes)


class PosteriorMean(Representation):
    """The mean of q(z|x); back by E[x|z]."""

    name = "posterior"
    reconstructs = True

    def check(self, model: ScoreModel) -> None:
        """Needs an encoder."""
        if not isinstance(model, VAE):
            raise ValueError(f"PosteriorMean needs a VAE, got {type(model).__name__}: write null")

    def encode(self, model: VAE, x: Tensor, generator: torch.Generator) -> Tensor:
        """mu(x), (B, latent)."""
        return model.posterior(x)[0]

    def reconstruct(self, model: VAE, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        """E[x|z = codes], (B, *shape)."""
        return model.visible(codes)


class Bottleneck(Representation):
    """The maps between the two ways of a U-Net, averaged over pixels, of x_t = alpha_t x + sigma_t noise.

    Of a conditional model without a label, which would be in the codes. A process without noise takes x itself.
    Denoising diffusion autoencoders are unified self-supervised learners (Xiang et al., 2023),
    https://arxiv.org/abs/2303.09769: neither least nor most noise is best.
    """

    name = "bottleneck"

    def __init__(self, t: UnitInterval = 0.1) -> None:
        self.t = t

    def check(self, model: ScoreModel) -> None:
        """Needs a U-Net, a time with noise of a discrete process, and an unconditional side."""
        if not hasattr(getattr(model, "net", None), "middle"):
            raise ValueError(
                f"Bottleneck needs a U-Net, got {type(getattr(model, 'net', model)).__name__}: write null, or ODELatent"
            )
        steps = model.process.steps
        if steps is not None and self.t * steps < 1:
            raise ValueError(f"Bottleneck.t is {self.t}, and the first noise of {steps} steps is at t = {1 / steps}")

    def encode(self, model: ScoreModel, x: Tensor, generator: torch.Generator) -> Tensor:
        """(B, channels of the middle)."""
        t, seen = instant(self.t, x), []
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        if model.net.classes is not None:
            model = model.given(torch.full((len(x),), model.net.classes - 1, device=x.device))
        hook = model.net.middle[-1].register_forward_hook(lambda _, __, out: seen.append(out.mean((2, 3))))
        try:
            # A compiled network would not see a hook that came after its compilation.
            with torch.compiler.set_stance("force_eager"):
                place = model.process.perturb(x, t, noise)
                model.energy(place) if isinstance(model, EnergyModel) else model.noise(place, t)
        finally:
            hook.remove()
        return seen[0].float()

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

    def __init__(self, flow: Flow | None = None) -> None:
        self.flow = Flow("heun", steps=20) if flow is None else flow
        if self.flow.solver not in RULES:
            raise ValueError(
                f"ODELatent goes both ways in equal steps, got solver {self.flow.solver}: choose rk4, heun or euler"
            )

    def check(self, model: ScoreModel) -> None:
        """Needs a process whose noise grows, and no label."""
        self.flow.check(model.process)
        if getattr(getattr(model, "net", None), "classes", None) is not None:
            raise ValueError("ODELatent needs a model without labels, got a conditional one: choose Bottleneck")

    def path(self, model: ScoreModel, x: Tensor, d: int) -> Path:
        """The path on which x lies."""
        return Path(model, self.flow.begin(model.process), d, x.dtype)

    def encode(self, model: ScoreModel, x: Tensor, generator: torch.Generator) -> Tensor:
        """x_1 / sigma of the prior, (B, d)."""
        path = self.path(model, x, x[0].numel())
        slope = lambda place, z: path.slope(place, z, [])  # noqa: E731
        z, _ = self.flow.fixed(slope, *path.ends, x.double() / path.scales[0], None)
        return (z * path.scales[1] / model.process.prior_sigma).flatten(1).to(x.dtype)

    def reconstruct(self, model: ScoreModel, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        """x at the beginning of the path, (B, *shape)."""
        path = self.path(model, codes, codes.shape[1])
        slope = lambda place, z: path.slope(place, z, [])  # noqa: E731
        start = codes.double().view(-1, *shape) * model.process.prior_sigma / path.scales[1]
        z, _ = self.flow.fixed(slope, *path.ends[::-1], start, None)
        return (z * path.scales[0]).to(codes.dtype)

    def describe(self) -> dict[str, Any]:
        """Name and solver."""
        return {"representation": self.name, "solver": self.flow.solver, "steps": self.flow.steps}


def representation_of(model: ScoreModel) -> Representation:
    """The first that it has of hidden units, posterior mean, bottleneck and ODE; ValueError where it has none."""
    for kind in (Hidden, PosteriorMean, Bottleneck, ODELatent):
        found = kind()
        try:
            found.check(model)
        except ValueError:
            continue
        return found
    raise ValueError(
        f"callbacks.representations finds none in a {type(model).__name__}: there are no hidden units, no encoder, no "
        "U-Net and no path to noise; write callbacks.representations=null"
    )

"""Models that samplers are tried on: what each is, exact samples of it, and which of its calls are counted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_gen.check.known import Density, Gaussian, Mixture, example
from lightning_gen.models import (
    RBM,
    VAE,
    Autoregressive,
    GaussianBernoulliRBM,
    GeneratedEnergy,
    Model,
    RecoveryEnergy,
)
from lightning_gen.nets import MADE
from lightning_gen.process import VE, VP, DiscreteVP
from lightning_gen.randomness import generator

VISIBLE = (("", "visible"),)
Draw = Callable[[int, torch.Generator], Tensor]


@dataclass
class Case:
    """A model whose law is known.

    Args:
        title: in words.
        model: the model.
        exact: (n, generator) -> n samples of the data, (n, ...); None where they are not known.
        calls: the methods that are called once for each evaluation, and of which part of the model.
        invariant: whether a Markov chain on it may start from exact samples.
        mixture: the same for a mixture, where there is one.
    """

    title: str
    model: Model
    exact: Draw | None
    calls: tuple[tuple[str, str], ...] = (("", "score"),)
    invariant: bool = True
    mixture: "Case | None" = None

    def counted(self) -> list[int]:
        """Count calls from now on: a list with an entry for each."""
        found: list[int] = []

        def counting(method: Callable) -> Callable:
            def call(*args: Any, **options: Any) -> Any:
                found.append(1)
                return method(*args, **options)

            return call

        for name, method in self.calls:
            part = self.model.get_submodule(name)
            object.__setattr__(part, method, counting(getattr(part, method)))
        return found


def cases() -> Iterator[Case]:
    """The cases, made one after the other: the first that a sampler accepts is the one that it is tried on."""
    mean, cov = example()

    def noised(title: str, process: Any) -> Case:
        truth, mixture = Gaussian(process, mean, cov), Mixture(process)
        beside = Case(f"of a mixture, {title}", mixture, mixture.clean)
        return Case(f"of a Gaussian, {title}", truth, truth.clean, mixture=beside)

    yield noised("noised by VP", VP())
    truth, mixture = Gaussian(VP(), mean, cov), Mixture(VP())
    calls = (("", "energy"), ("", "draw"))
    beside = Case("of a mixture, without noise", Density(mixture), mixture.clean, calls)
    yield Case("of a Gaussian, without noise", Density(truth), truth.clean, calls, True, beside)
    yield noised("noised by a VE of 12 levels", VE(0.03, 30.0, levels=12))
    yield Case("of a binary RBM", *with_units(RBM((4,), 3, 1.0)), VISIBLE)
    yield Case("of a Gaussian RBM", *with_units(GaussianBernoulliRBM((2,), 3, 1.0)), VISIBLE)
    model = seeded(lambda: VAE(Affine(), "gaussian", 0.5))
    yield Case("of a linear decoder", model, lambda n, g: model.simulate(n, g)[0].detach(), VISIBLE, False)
    pair = seeded(lambda: GeneratedEnergy(AffinePair()))
    yield Case("of a linear generator", pair, _affine(pair.net.generator), (("", "energy"),), False)
    network = seeded(lambda: Autoregressive(MADE((4,), 3, width=16)))
    yield Case("of an autoregressive model", network, _enumerated(network), (("net", "step"),), False)
    levels = DiscreteVP([0.01, 0.3, 0.5, 0.7])
    yield Case("of energies at noise levels", RecoveryEnergy(Halves(), levels), None, (("net", "forward"),), False)


def like(model: nn.Module) -> torch.dtype:
    """The dtype in which a model works: that of its weights, without any double precision."""
    return next((p.dtype for p in model.parameters()), torch.float64)


def seeded(make: Callable[[], Any]) -> Any:
    """What is made, with weights that are the same each time, and the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return make()


def with_units(model: RBM | GaussianBernoulliRBM) -> tuple[Model, Draw]:
    """The RBM with weights of order 1, and its exact draws."""
    source = generator(1, "check", "rbm")
    with torch.no_grad():
        for parameter in (model.W, model.c):
            parameter.copy_(0.8 * torch.randn(parameter.shape, generator=source))
    return model, lambda n, g: model.draw((n, *model.shape), g)


def _affine(layer: nn.Linear) -> Draw:
    """Draws of the Gaussian W z + b."""
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    return lambda n, g: bias + torch.randn(n, weight.shape[1], generator=g, dtype=torch.float64) @ weight.T


def _enumerated(model: Autoregressive) -> Draw:
    """Draws from the table of the probabilities of all states."""
    states = torch.cartesian_prod(*[torch.arange(float(model.net.levels))] * model.net.sites)
    with torch.no_grad():
        p = model.log_prob(states).double().exp()
    return lambda n, g: states[torch.multinomial(p, n, replacement=True, generator=g)]


class Affine(nn.Module):
    """An encoder and a decoder of points in the plane that are affine: the VAE's data are Gaussian."""

    latent, classes = 2, None

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(2, 4), nn.Linear(2, 2)

    def encode(self, x: Tensor) -> Tensor:
        """Means, then log-variances, (B, 4)."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """(B, 2)."""
        return self.decoder(z)


class AffinePair(nn.Module):
    """A generator of points in the plane, and a critic."""

    classes = None

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.critic = nn.Linear(2, 2), nn.Linear(2, 1)
        self.generator.latent = 2

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """(B,)."""
        return self.critic(x).squeeze(1)


class Halves(nn.Module):
    """x / 2: with the readout reconstruction an energy that is a parabola at each level."""

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Like x."""
        return x / 2

"""A small module of every family, and x that it takes, for the questions of all of them."""

from functools import partial

import torch

from lightning_gen import models
from lightning_gen.families import GenerativeModule
from lightning_gen.models import Denoiser, EnergyNetwork, Flow, Generator, ScoreNetwork, VelocityNetwork
from lightning_gen.nets import MADE, MLP, MLPAutoencoder, RealNVP
from lightning_gen.process import VE, VP, DiscreteVP, linear_betas
from tests.likelihood.linear import Linear

ADAM = partial(torch.optim.Adam, lr=1e-3)
D = 4
net = partial(MLP, (D,), 8, 1)


class Linearly(torch.nn.Module):
    """G(z) = W z of two latent variables."""

    classes, latent = None, 2

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, D)

    def forward(self, z):
        return self.layer(z)


MODELS = {
    "RBM, at most 20 units on a side": lambda: models.RBM(D, 3, 0.5),
    "RBM, more units": lambda: models.RBM(21, 21, 0.1),
    "GaussianBernoulliRBM, at most 20 hidden units": lambda: models.GaussianBernoulliRBM(D, 3, 0.5),
    "GaussianBernoulliRBM, more": lambda: models.GaussianBernoulliRBM(D, 21, 0.1),
    "EBM with `module.confine`": lambda: EnergyNetwork(net(), None, "norm", 1.0),
    "EBM without": lambda: EnergyNetwork(net(), None, "norm"),
    "ScoreMatching of a score network": lambda: ScoreNetwork(net()),
    "ScoreMatching at one noise level": lambda: ScoreNetwork(net(), VE(0.5, 0.5)),
    "NCSN": lambda: Denoiser(net(), VE(0.1, 5.0, levels=10)),
    "DDPM": lambda: Denoiser(net(), DiscreteVP(linear_betas(20, 1e-3, 0.3))),
    "ScoreSDE": lambda: Denoiser(net(), VP()),
    "EDM": lambda: Denoiser(net(), VE(0.01, 20.0), "edm"),
    "FlowMatching": lambda: VelocityNetwork(net()),
    "VAE, Gaussian": lambda: models.VAE(Linear(D, 2), "gaussian"),
    "VAE, Bernoulli": lambda: models.VAE(MLPAutoencoder((D,), 2, 8, 1)),
    "Autoregressive": lambda: models.Autoregressive(MADE((D,), 3, width=8)),
    "Autoregressive, several orderings": lambda: models.Autoregressive(MADE((D,), 2, width=8, orderings=2)),
    "Flow": lambda: Flow(RealNVP((D,), 8, couplings=2)),
    "GAN": lambda: Generator(Linearly()),
}


def of(model, shape=(D,), **options):
    """A family with this model, in float64."""
    return GenerativeModule(model, None, ADAM, shape=shape, **options).double()


def module(name):
    """The module of a row of the table."""
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():  # last layers are zero at the start
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return of(model, (21,) if name == "RBM, more units" else (D,))


def points(module, n=6, seed=0):
    """x that the model takes, (n, *shape)."""
    g, support = torch.Generator().manual_seed(seed), module.model.support
    if support.kind == "real":
        return torch.randn(n, *module.shape, generator=g, dtype=torch.float64)
    return torch.randint(support.levels, (n, *module.shape), generator=g).double()

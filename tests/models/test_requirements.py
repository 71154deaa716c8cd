"""Model by sampler by estimator: what is accepted gives the right law or number, everything else one sentence."""

import math
import re

import pytest
import torch
from torch import nn

from lightning_gen import likelihood, samplers
from lightning_gen.likelihood import (
    EnergyPath,
    GaussianPath,
    ODELikelihood,
    RBMPath,
    annealing_path,
    log_weights,
    partition,
    temperatures,
)
from lightning_gen.losses import (
    ELBO,
    IWAE,
    NCE,
    ContrastiveDivergence,
    DenoisingScoreMatching,
    ExactScoreMatching,
    FlowMatching,
    NegativeLogLikelihood,
    RBMContrastiveDivergence,
    SlicedScoreMatching,
    uniform,
)
from lightning_gen.models import (
    BINARY,
    RBM,
    VAE,
    Autoregressive,
    Conditionals,
    Dirichlet,
    Energy,
    Exponential,
    Flow,
    GaussianBernoulliRBM,
    Generator,
    Normalised,
    Poisson,
    Scored,
    SmoothEnergy,
    SumOfEnergies,
    capabilities,
    fits,
)
from lightning_gen.nets import MADE, NSF, RealNVP
from lightning_gen.nets.flows import ActNorm, Composed, FlowNetwork
from lightning_gen.process import VE, VP, Clean
from lightning_gen.representations import Bottleneck, Hidden, ODELatent, PosteriorMean
from tests.flows import GaussianVelocity
from tests.gaussian import Gaussian
from tests.likelihood.linear import Linear

F64 = {"dtype": torch.float64}
STD = 0.8  # of the real laws below, in each of two dimensions


class IndependentBits(Normalised):
    """Independent binary values of known probability: a normalised density without a score."""

    support = BINARY

    def __init__(self, p=(0.2, 0.7)):
        super().__init__()
        self.p = torch.tensor(p, **F64)

    def log_prob(self, x):
        return (x * self.p.log() + (1 - x) * (1 - self.p).log()).sum(1)

    def draw(self, shape, generator=None):
        return (torch.rand(shape, generator=generator, **F64) < self.p).double()


class Bowl(Normalised, SmoothEnergy):
    """N(0, STD^2 I): a normalised density with a score."""

    def __init__(self):
        super().__init__(Clean())

    def log_prob(self, x):
        return -0.5 * x.square().sum(1) / STD**2 - x.shape[1] * math.log(STD * math.sqrt(2 * math.pi))

    def draw(self, shape, generator=None):
        return STD * torch.randn(shape, generator=generator, **F64)


class Affine(nn.Linear):
    """G(z) = W z + b: x ~ N(b, W WT)."""

    classes, latent = None, 2

    def __init__(self):
        super().__init__(2, 2)


class Flat(SmoothEnergy):
    """An energy of no finite integral, for sums."""

    def __init__(self):
        super().__init__(Clean())

    def energy(self, x):
        return 0 * x.sum(1)


def seeded(make):
    torch.manual_seed(3)
    return make().double()


def gaussian_rbm():
    model = GaussianBernoulliRBM(2, 3, std=0.5, variance=0.3)
    model.c.data.normal_()
    return model


def scaling(net):
    """A flow of N(0, STD^2 I): without weights couplings and splines are the identity, after a scale."""
    scale = ActNorm(2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        scale.log_scale.fill_(-math.log(STD))
    made = FlowNetwork((2,), [(Composed(scale, *net.levels), (2,))])
    made.kinks = net.kinks
    return Flow(made)


def noised(process):
    return Gaussian(process, torch.zeros(2, **F64), STD**2 * torch.eye(2, **F64))


MODELS = {
    "rbm": lambda: RBM(2, 3, std=1.0),
    "gaussian rbm": gaussian_rbm,
    "independent bits": IndependentBits,
    "bowl": Bowl,
    "sum of rbms": lambda: SumOfEnergies(RBM(2, 3), RBM(2, 3)),
    "sum of independent bits and rbm": lambda: SumOfEnergies(IndependentBits(), RBM(2, 3)),
    "sum over reals": lambda: SumOfEnergies(Bowl(), Flat()),
    "vp": lambda: noised(VP()),
    "ve": lambda: noised(VE(0.01, 10.0, levels=20)),
    "velocity": lambda: GaussianVelocity(STD),
    "velocity of alpha(1) > 0": lambda: GaussianVelocity(STD, 0.05),
    "clean score": lambda: noised(Clean()),
    "bernoulli vae": lambda: VAE(Linear(2, 2), "bernoulli"),
    "gaussian vae": lambda: VAE(Linear(2, 2), "gaussian"),
    "binary made": lambda: Autoregressive(MADE((2,), 2, width=8)),
    "made of levels": lambda: Autoregressive(MADE((2,), 5, width=8, orderings=2)),
    "flow": lambda: scaling(RealNVP((2,), 4, couplings=2)),
    "spline flow": lambda: scaling(NSF((2,), 4, transforms=1)),
    "generator": lambda: Generator(Affine()),
    "exponential": lambda: Exponential([1.0, 2.0]),
    "dirichlet": lambda: Dirichlet([1.0, 2.0]),
    "poisson": lambda: Poisson([0.5, 4.0]),
}
CLOSED_FORMS = {"exponential", "dirichlet", "poisson"}  # that are not over all real numbers


# Chains on flows take many passes through the network; tests/models/test_flow.py has the quick laws.
CHAINS_ON = [pytest.param(name, marks=[pytest.mark.slow] * name.endswith("flow")) for name in MODELS]


def named(*components):
    """Class name -> component."""
    return {type(each).__name__: each for each in components}


DIFFUSIONS = named(
    samplers.Ancestral("large", 100),
    samplers.DDIM(100),
    samplers.DPMSolver(30),
    samplers.EDMHeun(30, 5.0, s_max=5.0),
    samplers.EulerMaruyama(200),
    samplers.FlowODE(60),
    samplers.PredictorCorrector(samplers.Ancestral("large", 100), 1, 0.05),
    samplers.ProbabilityFlow(30),
    samplers.RK45(1e-3, 1e-3, 4),
)
SAMPLERS = DIFFUSIONS | named(
    samplers.Langevin(300, 0.01),
    samplers.MALA(200, 0.2),
    samplers.HMC(50, 0.2, 5),
    samplers.Gibbs(60),
    samplers.GibbsLangevin(150, 10, 0.05),
    samplers.AnnealedLangevin(steps_each=60, step_rule="v1_code", epsilon=8e-5),
    samplers.Latent(),
    samplers.Sequential(),
    samplers.Exact(),
    samplers.Prior(),
    samplers.TiltedLangevin(2),
)
ENERGY_CHAINS = {"Langevin", "MALA", "HMC"}
ACCEPTED = {
    "rbm": {"Gibbs"},
    "gaussian rbm": {*ENERGY_CHAINS, "Gibbs", "GibbsLangevin"},
    "independent bits": {"Exact"},
    "bowl": {*ENERGY_CHAINS, "Exact"},
    "sum of rbms": set(),
    "sum of independent bits and rbm": set(),
    "sum over reals": ENERGY_CHAINS,
    "vp": {*DIFFUSIONS},
    "ve": {*DIFFUSIONS, "Langevin", "AnnealedLangevin"},
    "velocity": {"Ancestral", "DDIM", "FlowODE"},
    "velocity of alpha(1) > 0": {*DIFFUSIONS},
    "clean score": {"Langevin"},
    "bernoulli vae": {"Latent"},
    "gaussian vae": {"Latent"},
    "binary made": {"Sequential", "Exact"},
    "made of levels": {"Sequential", "Exact"},
    "flow": {*ENERGY_CHAINS, "Exact"},
    "spline flow": {*ENERGY_CHAINS, "Exact"},
    "generator": {"Latent"},
    "exponential": {"Exact"},
    "dirichlet": {"Exact"},
    "poisson": {"Exact"},
}


def moments(name, model):
    """Mean and variance of each dimension by the model's own law."""
    if name == "gaussian rbm":
        logits, means, variance = model.mixture()
        shares = logits.softmax(0)[:, None]
        mean = (shares * means).sum(0)
        return mean.detach(), ((shares * means.square()).sum(0) - mean.square() + variance).detach()
    if name == "rbm":
        v = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], **F64)
        mean = ((-model.energy(v)).softmax(0)[:, None] * v).sum(0).detach()
        return mean, mean * (1 - mean)
    if "made" in name:
        v = torch.cartesian_prod(*[torch.arange(model.net.levels, **F64)] * 2)
        with torch.no_grad():
            p = model.log_prob(v).exp()[:, None]
        mean = (p * v).sum(0)
        return mean, (p * v.square()).sum(0) - mean.square()
    if name == "independent bits":
        return model.p, model.p * (1 - model.p)
    if name in CLOSED_FORMS:
        return model.law().mean.detach(), model.law().variance.detach()
    if name == "generator":
        return model.net.bias.detach(), model.net.weight.detach().square().sum(1)
    if name.endswith("vae"):
        with torch.no_grad():
            x = model.net.decode(torch.randn(400_000, 2, generator=torch.Generator().manual_seed(5), **F64))
            if name.startswith("gaussian"):
                return x.mean(0), x.var(0) + model.log_scale.exp().square()
            p = x.sigmoid().mean(0)
            return p, p * (1 - p)
    return torch.zeros(2, **F64), torch.full((2,), STD**2, **F64)


def test_the_table_names_every_sampler():
    assert set(SAMPLERS) == {
        name
        for name in samplers.__all__
        if isinstance(getattr(samplers, name), type)
        and issubclass(getattr(samplers, name), samplers.Sampler)
        and not getattr(samplers, name).__abstractmethods__
    }


@pytest.mark.parametrize("name", CHAINS_ON)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_draws_the_models_law_or_is_refused(name, sampler):
    model, chosen, n = seeded(MODELS[name]), SAMPLERS[sampler], 4000
    if sampler not in ACCEPTED[name]:
        with pytest.raises((TypeError, ValueError)) as refusal:
            chosen.check(model)
        text = str(refusal.value)
        assert "\n" not in text and sampler in text or "sampler." in text
        assert any(word in text for word in ("choose", "no sampler fits", "give"))
        return
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        x = chosen(model, chosen.start(model, (n, 2), g).double(), g)
    mean, variance = moments(name, model)
    assert (x.mean(0) - mean).abs().max() <= 5 * (variance.max() / n) ** 0.5 + 0.01
    assert ((x.var(0) - variance) / variance).abs().max() <= 0.12
    if model.support == BINARY:
        assert set(x.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("name", MODELS)
def test_what_would_fit_is_named(name):
    model = seeded(MODELS[name])
    for sampler in (samplers.MALA(1), samplers.DDIM(1), samplers.Gibbs(1), samplers.Latent(), samplers.Sequential()):
        if not fits(type(sampler), model):
            with pytest.raises(TypeError) as refusal:
                sampler.check(model)
            others = {each for each in SAMPLERS if fits(getattr(samplers, each), model)}
            text = str(refusal.value).partition(": ")[2]
            assert set(re.findall(r"\w+", text)) & set(SAMPLERS) == others


PATHS = {
    "rbm": RBMPath,
    "gaussian rbm": GaussianPath,
    "bowl": EnergyPath,
    "flow": EnergyPath,
    "spline flow": EnergyPath,
    "sum over reals": EnergyPath,
}


@pytest.mark.parametrize("name", CHAINS_ON)
def test_annealed_importance_sampling_gives_the_constant_or_is_refused(name):
    """Independent bits were annealed by MALA once, and the false constant was published."""
    model, mean, variance = seeded(MODELS[name]), torch.full((2,), 0.4, **F64), torch.ones(2, **F64)
    if name not in PATHS:
        with pytest.raises(TypeError, match=f"{type(model).__name__}.*has"):
            annealing_path(model, mean, variance, samplers.MALA(1, 0.2))
        return
    path, g = annealing_path(model, mean, variance, samplers.MALA(1, 0.2)), torch.Generator().manual_seed(1)
    assert type(path) is PATHS[name]
    result = partition(path, log_weights(path, temperatures(300), path.start(500, g), g))
    known = model.log_z() if model.tractable() else torch.zeros(())
    assert float(known.detach()) == pytest.approx(result.log_z, abs=4 * result.error + 0.02)


NOISED = {"vp", "ve", "velocity", "velocity of alpha(1) > 0"}


@pytest.mark.parametrize("name", MODELS)
def test_the_ode_gives_the_density_or_is_refused(name):
    model, x = seeded(MODELS[name]), STD * torch.randn(20, 2, generator=torch.Generator().manual_seed(0), **F64)
    if name not in NOISED:
        with pytest.raises((TypeError, ValueError), match=type(model).__name__ + "|Clean"):
            ODELikelihood().check(model)
        return
    nats, _ = ODELikelihood()(model, x)
    start = 0.01 if name == "ve" else 0.0
    law = torch.distributions.Normal(0.0, math.sqrt(STD**2 + start**2))
    torch.testing.assert_close(
        nats, law.log_prob(x).sum(1), rtol=0, atol=0.02 if name == "ve" else 5e-3
    )  # VE's prior knows no data


DIFFERENTIABLE = {"gaussian rbm", "bowl", "sum over reals", "flow"}
SMOOTH, SCORES = DIFFERENTIABLE | {"spline flow"}, {*NOISED, "clean score"}
RBMS, VAES = {"rbm", "gaussian rbm"}, {"bernoulli vae", "gaussian vae"}
LOSSES = {
    "DenoisingScoreMatching": (DenoisingScoreMatching(uniform()), NOISED),
    "ExactScoreMatching": (ExactScoreMatching(), DIFFERENTIABLE | SCORES),
    "SlicedScoreMatching": (SlicedScoreMatching(), DIFFERENTIABLE | SCORES),
    "FlowMatching": (FlowMatching(uniform()), NOISED - {"vp"}),
    "NCE": (NCE(1.0), SMOOTH | {"exponential"}),
    "ContrastiveDivergence by Gibbs": (ContrastiveDivergence(samplers.Gibbs(1)), RBMS),
    "ContrastiveDivergence by MALA": (ContrastiveDivergence(samplers.MALA(1)), SMOOTH),
    "RBMContrastiveDivergence": (RBMContrastiveDivergence(samplers.Gibbs(1)), RBMS),
    "ELBO": (ELBO(), VAES),
    "IWAE": (IWAE(2), VAES),
    "NegativeLogLikelihood": (
        NegativeLogLikelihood(),
        {"independent bits", "bowl", "binary made", "made of levels", "flow", "spline flow", *CLOSED_FORMS},
    ),
}
REPRESENTATIONS = {
    "Hidden": (Hidden(), RBMS),
    "PosteriorMean": (PosteriorMean(), VAES),
    "Bottleneck": (Bottleneck(), set()),
    "ODELatent": (ODELatent(), NOISED),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("needing", [*LOSSES, *REPRESENTATIONS])
def test_losses_and_representations_take_what_has_what_they_need(name, needing):
    (component, accepted), model = (LOSSES | REPRESENTATIONS)[needing], seeded(MODELS[name])
    if name in accepted:
        return component.check(model)
    with pytest.raises((TypeError, ValueError), match="needs"):
        component.check(model)


def test_an_importance_estimate_needs_an_encoder():
    with pytest.raises(TypeError, match="model.*RBM"):
        likelihood.importance.log_weights(RBM(2, 3), torch.zeros(4, 2), 5)


def test_a_score_exists_over_real_numbers_alone():
    assert Scored not in capabilities(SumOfEnergies(RBM(2, 3), RBM(2, 3)))
    assert Scored in capabilities(SumOfEnergies(Bowl(), gaussian_rbm().double()))
    assert {Energy, Conditionals} <= capabilities(RBM(2, 3)) and Scored not in capabilities(RBM(2, 3))


def test_parts_of_a_sum_lie_over_one_support():
    with pytest.raises(ValueError, match="RBM over binary.*Bowl over real"):
        SumOfEnergies(RBM(2, 3), Bowl())


def test_a_foreign_class_may_be_needed_too():
    """`needs` may name any class, not only the capabilities."""

    class Mine(samplers.Gibbs):
        needs = (RBM,)

    Mine(1).check(RBM(2, 3))
    with pytest.raises(TypeError, match="Mine needs a model of class RBM.*GaussianBernoulliRBM"):
        Mine(1).check(GaussianBernoulliRBM(2, 3))
    assert issubclass(RBM, nn.Module)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"needs": Scored}, "needs is .*tuple of classes"), ({"supports": "real"}, "supports is 'real'")],
)
def test_a_wrong_declaration_is_said_of_its_class_and_spoils_no_other_refusal(wrong, said):
    mine = type("Wrong", (samplers.Gibbs,), wrong)
    with pytest.raises(TypeError, match=f"Wrong.{said}"):
        mine(1).check(RBM(2, 3))
    with pytest.raises(TypeError, match="sampler MALA needs .*: choose .*Gibbs") as refusal:
        samplers.MALA(1, 0.1).check(RBM(2, 3))
    assert "Wrong" not in str(refusal.value)

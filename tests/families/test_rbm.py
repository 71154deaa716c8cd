"""The families of RBMs and energies: what they take from the data, what they refuse, what they represent."""

import pytest
import torch

from lightning_gen import models
from lightning_gen.data import Digits
from lightning_gen.families import EBM, RBM, GaussianBernoulliRBM
from lightning_gen.families.rbm import data_moments
from lightning_gen.losses import ContrastiveDivergence
from lightning_gen.models import EnergyNetwork, SumOfEnergies
from lightning_gen.nets import MLP, ResNetEnergy
from lightning_gen.process import VE, Clean
from lightning_gen.samplers import HMC, MALA, Gibbs, GibbsLangevin, Langevin
from tests.data.sets import ready

SGD = lambda parameters: torch.optim.SGD(parameters, lr=0.1)  # noqa: E731
SHAPE = (1, 8, 8)


def data(**options):
    return ready(Digits(**{"value_range": (0.0, 1.0), "binarise": "fixed", **options}))


def test_visible_biases_and_offsets_are_the_datas():
    digits, module = data(), RBM(SGD, SHAPE, 4, centred=True)
    module.initialise(digits)
    mean = digits.encode(digits.split("train").take(slice(None))).double().mean(0).flatten()
    torch.testing.assert_close(data_moments(digits)[0], mean)
    torch.testing.assert_close(module.model.b.detach().sigmoid(), mean.clamp(0.01, 0.99).float())
    torch.testing.assert_close(module.model.offset_v, mean.float())
    zero = RBM(SGD, SHAPE, 4, visible_bias="zero")
    zero.initialise(digits)
    assert not zero.model.b.any()


def test_a_gaussian_rbm_starts_at_the_datas_mean():
    digits, module = data(value_range=(-0.8124, 1.8429), binarise=None), GaussianBernoulliRBM(SGD, SHAPE, 4)
    module.initialise(digits)
    x = digits.encode(digits.split("train").take(slice(None))).double().flatten(1)
    torch.testing.assert_close(module.model.mu.detach(), x.mean(0).float())
    torch.testing.assert_close(data_moments(digits)[1], x.var(0, correction=0), atol=1e-9, rtol=1e-9)
    assert abs(float(x.mean())) < 1e-3 and abs(float(x.var()) - 1) < 1e-3  # the experiment's range is standardised


def test_a_gaussian_rbms_variances_start_at_the_datas():
    """Pixels of 8x8 digits differ in variance a thousandfold, and three of them never change."""
    digits = data(value_range=(-0.8124, 1.8429), binarise=None)
    x = digits.encode(digits.split("train").take(slice(None))).double().flatten(1).var(0, correction=0)
    for jitter in (0.0, 0.3):
        module = GaussianBernoulliRBM(SGD, SHAPE, 4, variance="data", jitter=jitter)
        module.initialise(digits)
        expected = (x + jitter**2).clamp(min=0.01 * float(x.max() + jitter**2)).float()
        torch.testing.assert_close(module.model.variance.detach(), expected)
    assert float(x.min()) == 0 and (expected == expected.min()).sum() < 8
    fixed = GaussianBernoulliRBM(SGD, SHAPE, 4, variance=0.7)
    fixed.initialise(digits)
    torch.testing.assert_close(fixed.model.variance.detach(), torch.full((64,), 0.7))
    with pytest.raises(ValueError, match="variance.*date"):
        GaussianBernoulliRBM(SGD, SHAPE, 4, variance="date")


@pytest.mark.parametrize("make", [SGD, lambda parameters: torch.optim.Adam(parameters, lr=0.01)])
def test_variances_are_learned_at_a_rate_of_their_own(make):
    """By the rate, and in that alone, two first updates differ."""
    moved, x = {}, torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(1))
    for rate in (1.0, 10.0):
        torch.manual_seed(0)
        module = GaussianBernoulliRBM(make, SHAPE, 4, variance_rate=rate)
        before = {name: value.clone() for name, value in module.model.named_parameters()}
        optimizer = module.configure_optimizers()[0]["optimizer"]
        module.loss(module.model, x, torch.Generator().manual_seed(2)).mean().backward()
        optimizer.step()
        moved[rate] = {name: value.detach() - before[name] for name, value in module.model.named_parameters()}
    for name, step in moved[1.0].items():
        factor = 10 if name == "log_variance" else 1
        torch.testing.assert_close(moved[10.0][name], factor * step, rtol=1e-4, atol=1e-6)
    assert all(step.any() for step in moved[1.0].values())
    with pytest.raises(ValueError, match="variance_rate.*0"):
        GaussianBernoulliRBM(SGD, SHAPE, 4, variance_rate=0)


def test_a_jittered_rbm_rests_where_its_variances_are_those_of_jittered_data():
    """Without weights it is a Gaussian: at the moments of data plus noise the expected gradient is zero."""
    digits, result = data(value_range=(-0.8124, 1.8429), binarise=None), []
    module = GaussianBernoulliRBM(SGD, SHAPE, 4, variance="data", jitter=0.3)
    module.initialise(digits)
    module.model.W.data.zero_()
    x = digits.encode(digits.split("train").take(slice(None)))
    for seed in range(40):
        module.model.zero_grad()
        module.loss(module.model, x, torch.Generator().manual_seed(seed)).mean().backward()
        result.append(torch.cat([module.model.mu.grad, module.model.log_variance.grad]))
    rows = torch.stack(result)
    z = rows.mean(0) / (rows.std(0) / len(rows) ** 0.5)
    assert z.abs().max() < 5 and z.square().mean() < 1.5


@pytest.mark.parametrize("wrong", [{"binarise": None}, {"value_range": (-1.0, 1.0)}])
def test_an_rbm_refuses_data_that_are_not_binary(wrong):
    with pytest.raises(ValueError, match="data.binarise.*data.value_range"):
        RBM(SGD, SHAPE, 4).check_data(data(**wrong))


@pytest.mark.parametrize("kind", [RBM, GaussianBernoulliRBM])
def test_the_representation_is_the_averaged_models(kind):
    module = kind(SGD, SHAPE, 4, ema_decay=0.9)
    with torch.no_grad():
        module.model.c.add_(1.0)
    v = torch.rand(3, *SHAPE)
    torch.testing.assert_close(module.transform(v), module.ema.hidden(v))
    assert module.transform(v).shape == (3, 4) and not torch.allclose(module.transform(v), module.model.hidden(v))


def test_one_key_chooses_the_chain_of_a_gaussian_rbm():
    for chain in (Gibbs(3), GibbsLangevin(3), Langevin(3, 0.01), MALA(3, 0.01), HMC(3, 0.01)):
        module = GaussianBernoulliRBM(SGD, SHAPE, 4, chain=chain)
        loss = module.loss(module.model, torch.randn(5, *SHAPE), torch.Generator().manual_seed(0))
        loss.mean().backward()
        for name, parameter in module.model.named_parameters():
            assert torch.isfinite(parameter.grad).all(), name
        assert module.model.W.grad.any()
        assert module.sampler is None


def test_a_chain_that_does_not_fit_is_refused_at_once():
    with pytest.raises(TypeError, match="choose Gibbs"):
        RBM(SGD, SHAPE, 4, sampler=Langevin(3, 0.1))
    with pytest.raises(TypeError, match="Gibbs.*EnergyNetwork"):
        EBM(MLP((2,), 8, 1), ContrastiveDivergence(Gibbs(1)), SGD)
    with pytest.raises(ValueError, match="sigma.*-1"):
        EBM(MLP((2,), 8, 1), ContrastiveDivergence(MALA(1)), SGD, sigma=-1.0)


def test_noise_makes_an_energy_that_of_noised_data():
    assert isinstance(EBM(MLP((2,), 8, 1), ContrastiveDivergence(MALA(1)), SGD, sigma=0.1).model.process, VE)
    assert isinstance(EBM(MLP((2,), 8, 1), ContrastiveDivergence(MALA(1)), SGD).model.process, Clean)


def test_a_readout_must_fit_its_network():
    x = torch.randn(2, *SHAPE)
    with pytest.raises(ValueError, match="scalar"):
        EnergyNetwork(ResNetEnergy(SHAPE, 4, (1,), 1)).energy(x)
    with pytest.raises(ValueError, match="product, reconstruction or norm"):
        EnergyNetwork(MLP(SHAPE, 8, 1), readout="scalar").energy(x)


def test_two_energies_are_the_product_of_their_densities():
    """N(0, 1/a) times N(1, 1/b) is N(b / (a + b), 1 / (a + b)): MALA on the sum finds it."""
    rbms = []
    for mu, variance in ((0.0, 1.0), (1.0, 0.5)):
        rbm = models.GaussianBernoulliRBM(1, 1, variance=variance).double()
        with torch.no_grad():
            rbm.W.zero_(), rbm.mu.fill_(mu)
        rbms.append(rbm)
    both = SumOfEnergies(*rbms)
    assert both.why_unnormalisable() is None
    generator = torch.Generator().manual_seed(0)
    x = MALA(200, 0.2)(both, torch.zeros(20000, 1, dtype=torch.float64), generator)
    z = (x.mean() - 2 / 3) / (x.std() / len(x) ** 0.5)
    assert abs(float(z)) < 4
    assert abs(float(x.var()) - 1 / 3) < 4 * (2 / len(x)) ** 0.5 / 3
    with pytest.raises(ValueError, match="2 energies"):
        SumOfEnergies(both)

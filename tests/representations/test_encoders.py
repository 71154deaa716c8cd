"""Representations of each kind of model, against what their models compute step by step."""

import pytest
import torch

from lightning_gen import models
from lightning_gen.likelihood import ODELikelihood
from lightning_gen.models import Denoiser, EnergyNetwork
from lightning_gen.nets import MLP, MLPAutoencoder, UNet
from lightning_gen.process import VE, VP, Clean, DiscreteVP, linear_betas
from lightning_gen.representations.encoders import Bottleneck, Hidden, ODELatent, PosteriorMean, representation_of
from tests.gaussian import PROCESSES, Gaussian, example


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def unet(classes=None):
    torch.manual_seed(0)
    net = UNet((1, 8, 8), 8, (1, 2), 1, (), 0.0, 4, classes).eval()
    for parameter in net.parameters():  # its last layers start at zero
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return net


def middle(net, x, t, label=None):
    """The U-Net's way down and its middle, by hand, averaged over pixels."""
    embedding, h = torch.nn.functional.silu(net.embedding(t, label)), net.first(x)
    for layer in net.down:
        h = layer(h, embedding)
    for layer in net.middle:
        h = layer(h, embedding)
    return h.mean((2, 3))


def images(n=3):
    return torch.rand(n, 1, 8, 8, generator=seeded(1)) * 2 - 1


@pytest.mark.parametrize("process", [VP(), VE(), DiscreteVP(linear_betas(100))], ids=["vp", "ve", "discrete"])
def test_a_bottleneck_is_the_middle_of_the_network_at_noised_data(process):
    net, x = unet(), images()
    model = Denoiser(net, process, "noise")
    with torch.no_grad():
        result = Bottleneck(0.3).encode(model, x, seeded())
        t = torch.full((3,), 0.3, dtype=torch.float64)
        noised = process.perturb(x, t, torch.randn(x.shape, generator=seeded()))
        torch.testing.assert_close(result, middle(net, noised, process.network_time(t).float()))
    assert not net.middle[-1]._forward_hooks
    assert result.shape == (3, 16) and result.std(0).min() > 0


def test_an_energys_bottleneck_sees_the_data_themselves():
    net, x = unet(), images()
    with torch.no_grad():
        result = Bottleneck().encode(EnergyNetwork(net, Clean(), "norm"), x, seeded())
        torch.testing.assert_close(result, middle(net, x, torch.zeros(3)))


def test_no_label_reaches_the_codes_of_a_conditional_model():
    net, x = unet(classes=5), images()
    model = Denoiser(net, VP(), "noise").with_label(torch.tensor([0, 1, 2]))
    with torch.no_grad():
        result = Bottleneck(0.3).encode(model, x, seeded())
        t = torch.full((3,), 0.3, dtype=torch.float64)
        noised = VP().perturb(x, t, torch.randn(x.shape, generator=seeded()))
        torch.testing.assert_close(result, middle(net, noised, VP().network_time(t).float(), torch.full((3,), 4)))


@pytest.mark.parametrize("name", ["vp", "ve"])
def test_the_odes_latent_variables_of_a_gaussian_are_its_whitened_coordinates(name):
    """The map is affine, diagonal where the covariance is: x_1 = alpha_1 m + sqrt(v_1 / v_0) (x - alpha_0 m)."""
    process = PROCESSES[name]()
    mean, cov = torch.tensor([0.5, -1.0]).double(), torch.tensor([0.3, 2.0]).double()
    model, kind = Gaussian(process, mean, torch.diag(cov)), ODELatent(ODELikelihood("rk4", steps=40))
    x = mean + torch.randn(5, 2, generator=seeded(), dtype=torch.float64)
    t = torch.tensor([kind.flow.first_time(process), 1.0]).double()
    alpha, variance = process.alpha(t)[:, None], process.variance(t)[:, None]
    total = alpha**2 * cov + variance
    expected = (alpha[1] * mean + (total[1] / total[0]).sqrt() * (x - alpha[0] * mean)) / process.prior_sigma
    codes = kind.encode(Learned(model), x, seeded())
    torch.testing.assert_close(codes, expected, rtol=2e-4, atol=2e-4)
    torch.testing.assert_close(kind.reconstruct(Learned(model), codes, (2,)), x, rtol=1e-3, atol=1e-3)


class Learned(models.Scored):
    """The same score as of something that has parameters."""

    def __init__(self, model):
        super().__init__(model.process)
        self.inner, self.one = model, torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def score(self, x, t):
        return self.one * self.inner.score(x, t)


def test_rbms_and_autoencoders_represent_and_reconstruct():
    torch.manual_seed(0)
    rbm = models.RBM((1, 2, 2), 3, std=1.0)
    v = torch.randint(0, 2, (4, 1, 2, 2), generator=seeded()).float()
    codes = Hidden().encode(rbm, v, seeded())
    torch.testing.assert_close(codes, (rbm.c + v.flatten(1) @ rbm.W).sigmoid())
    expected = (rbm.b + codes @ rbm.W.T).sigmoid().view(-1, 1, 2, 2)
    torch.testing.assert_close(Hidden().reconstruct(rbm, codes, (1, 2, 2)), expected)
    vae = models.VAE(MLPAutoencoder((1, 2, 2), 2, 8, 1), "bernoulli")
    codes = PosteriorMean().encode(vae, v, seeded())
    torch.testing.assert_close(codes, vae.net.encode(v)[:, :2])
    torch.testing.assert_close(PosteriorMean().reconstruct(vae, codes, (1, 2, 2)), vae.net.decode(codes).sigmoid())


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (lambda: models.RBM((4,), 2), Hidden),
        (lambda: models.GaussianBernoulliRBM((4,), 2), Hidden),
        (lambda: models.VAE(MLPAutoencoder((4,)), "gaussian"), PosteriorMean),
        (lambda: Denoiser(unet(), DiscreteVP(linear_betas(100))), Bottleneck),
        (lambda: EnergyNetwork(unet(), Clean(), "norm"), Bottleneck),
        (lambda: Denoiser(MLP((2,), 8, 1), VP()), ODELatent),
    ],
)
def test_each_family_has_its_own(model, kind):
    assert type(representation_of(model())) is kind


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: representation_of(EnergyNetwork(MLP((2,), 8, 1), Clean(), "norm")), "EnergyNetwork"),
        (lambda: Bottleneck(1.5), "t.*1.5"),
        (lambda: Bottleneck(0.001).check(Denoiser(unet(), DiscreteVP(linear_betas(100)))), "100 steps"),
        (lambda: Bottleneck().check(Denoiser(MLP((2,), 8, 1), VP())), "U-Net.*MLP"),
        (lambda: ODELatent(ODELikelihood("rk45")), "solver.*rk45"),
        (lambda: ODELatent().check(Denoiser(unet(3), VP())), "labels"),
        (lambda: ODELatent().check(Gaussian(Clean(), *example())), "process.*Clean"),
        (lambda: Hidden().check(Gaussian(VP(), *example())), "Hidden.*Gaussian"),
        (lambda: PosteriorMean().check(Gaussian(VP(), *example())), "PosteriorMean.*Gaussian"),
        (lambda: Bottleneck().reconstruct(None, None, (2,)), "bottleneck"),
    ],
)
def test_what_a_model_does_not_have_is_refused(call, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        call()

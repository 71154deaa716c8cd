"""Every question to every family: a finite answer of the right shape, or one sentence; docs/asking.md says which."""

import math
import re
from functools import cache
from pathlib import Path

import pytest
import torch

import lightning_gen
from lightning_gen import models
from lightning_gen.likelihood import ODELikelihood
from lightning_gen.models import Autoregressive, Denoiser, EnergyNetwork, Flow, Guided, has
from lightning_gen.nets import MLP, RealNVP
from lightning_gen.nets.flows import UniformDequantiser
from lightning_gen.process import VE, VP
from lightning_gen.questions import (
    ANSWERS,
    AnnealedLogProb,
    ImportanceLogProb,
    NormalisedLogProb,
    ODELogProb,
    inpainting,
    inverse,
)
from lightning_gen.questions.densities import first_time
from lightning_gen.questions.latents import Generated, between
from lightning_gen.questions.modes import Ascent, ConditionalModes
from lightning_gen.representations import ODELatent
from lightning_gen.samplers import MALA, Langevin
from tests.energies import Quadratic
from tests.flows import GaussianVelocity
from tests.gaussian import Gaussian, example
from tests.likelihood.linear import Linear, linear
from tests.questions.families import MODELS, D, module, of, points

PAGE = Path(__file__).resolve().parents[2] / "docs" / "asking.md"
N = 6


@cache
def table():
    """Verbs, and for each family the answer of each verb."""
    block = re.search(r"(?:^\| family .*\n)(?:^\|.*\n)+", PAGE.read_text(), re.MULTILINE)[0]
    head, _, *rows = [[cell.strip() for cell in row.strip("|\n").split("|")] for row in block.splitlines()]
    return [verb.strip("`") for verb in head[1:]], {row[0]: row[1:] for row in rows}


CHEAP = {
    ("inpaint", "Gibbs"): inpainting.BlockGibbs(2),
    ("inpaint", "Gibbs of single values"): inpainting.SiteGibbs(2),
    ("inpaint", "MALA"): inpainting.ClampedMetropolis(MALA(4)),
    ("inpaint", "Metropolis within Gibbs"): inpainting.MetropolisWithinGibbs(4),
    ("inpaint", "RePaint"): inpainting.RePaint(5, 2),
    ("inpaint", "Langevin"): inpainting.ClampedLangevin(Langevin(4)),
    ("inpaint", "MALA over z"): inpainting.LatentMetropolis(sampler=MALA(4)),
    ("posterior", "MALA"): inverse.PosteriorMetropolis(MALA(4)),
    ("posterior", "moment matching"): inverse.MomentMatching(5),
    ("posterior", "Langevin"): inverse.PosteriorLangevin(Langevin(4)),
    ("mode", "ascent"): Ascent(5),
    ("mode", "single changes"): ConditionalModes(2),
    ("posterior", "MALA over z"): inverse.LatentPosterior(MALA(4)),
    ("log_prob", "ODE"): ODELogProb(ODELikelihood("heun", steps=4)),
    ("log_prob", "AIS"): AnnealedLogProb(10, 10),
    ("log_prob", "IWAE"): ImportanceLogProb(10),
    **{(verb, "ode"): ODELatent(ODELikelihood("euler", steps=4)) for verb in ("encode", "decode", "interpolate")},
}
CALLS = {
    "log_prob": lambda ask, x, by: ask.log_prob(x, by),
    "log_ratio": lambda ask, x, by: ask.log_ratio(x, x.flip(0), by),
    "score": lambda ask, x, by: ask.score(x, by=by),
    "denoise": lambda ask, x, by: ask.denoise(x, 0.5, by),
    "encode": lambda ask, x, by: ask.encode(x, by),
    "decode": lambda ask, x, by: ask.decode(codes(ask, x, by), by),
    "interpolate": lambda ask, x, by: ask.interpolate(x, x.flip(0), 5, by),
    "inpaint": lambda ask, x, by: ask.inpaint(x, prefix(ask.module), by),
    "posterior": lambda ask, x, by: ask.posterior(x[:, :2], torch.eye(x.shape[1])[:2], 0.5, by),
    "mode": lambda ask, x, by: ask.mode(x, by),
    "hidden_mode": lambda ask, x, by: ask.hidden_mode(x, by),
}
SHAPES = {"interpolate": lambda shape: (5, N, *shape)}


def prefix(family):
    """A mask that an autoregressive model can complete: its first value known."""
    mask = torch.zeros(family.shape, dtype=torch.bool)
    mask[family.model.net.order(0)[0] if has(family.model, Autoregressive) else 0] = True
    return mask


def codes(ask, x, by):
    """Codes that the model may have: those of x, or draws of the prior of a decoder."""
    if isinstance(by or ask.answer("decode"), Generated):
        return torch.randn(len(x), ask.model.latent, dtype=torch.float64)
    return ask.encode(x, by)


def test_the_page_has_every_family_and_every_question():
    verbs, rows = table()
    assert verbs == list(ANSWERS) == list(CALLS)
    assert list(rows) == list(MODELS)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("verb", ANSWERS)
def test_a_question_is_answered_or_refused_with_one_sentence(name, verb):
    """The answer is the one that the page names, finite and of the shape of x."""
    verbs, rows = table()
    family, said = module(name), rows[name][verbs.index(verb)]
    ask, x = lightning_gen.ask(family), points(family, N)
    if said == "–":
        with pytest.raises((TypeError, ValueError), match=verb) as refused:
            CALLS[verb](ask, x, None)
        assert "\n" not in str(refused.value) and type(family.model).__name__ in str(refused.value)
        return
    assert ask.answer(verb).name == said
    result = CALLS[verb](ask, x, CHEAP.get((verb, said)))
    if verb in ("log_prob", "log_ratio"):
        assert result.value.shape == result.error.shape == (N,) and (result.error >= 0).all()
        assert (result.kind == "exact") == (not result.error.any())
        result = result.value
    elif verb == "mode":
        assert result.x.shape == (N, *family.shape) and result.slope.shape == (N,)
        result = torch.cat([part.flatten() for part in result])
    elif verb not in ("encode", "hidden_mode"):
        assert result.shape == SHAPES.get(verb, lambda shape: (N, *shape))(family.shape)
    assert len(result) and result.isfinite().all()
    assert not result.requires_grad


# What is known in closed form


def gaussian(process):
    """A family whose model is the exact one of data N(mean, cov) in the plane, and its law at a noise level."""
    mean, cov = example()
    law = lambda variance: torch.distributions.MultivariateNormal(mean, cov + variance * torch.eye(2).double())  # noqa: E731
    return lightning_gen.ask(of(Gaussian(process, mean, cov), (2,))), law


def test_an_exact_density_answers_with_its_own_logarithm():
    family = module("Flow")
    x = points(family)
    result = lightning_gen.ask(family).log_prob(x)
    z, log_det = family.model.encode(x)
    standard = torch.distributions.Normal(0, 1).log_prob(z).sum(1)
    torch.testing.assert_close(result.value, standard + log_det, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["RBM, at most 20 units on a side", "Autoregressive"])
def test_probabilities_of_whole_numbers_add_up_to_one(name):
    family = module(name)
    count = family.model.support.levels
    x = torch.cartesian_prod(*[torch.arange(count)] * family.shape[0]).double()
    result = lightning_gen.ask(family).log_prob(x)
    assert result.kind == "exact" and float(result.value.exp().sum()) == pytest.approx(1, abs=1e-12)


def test_annealing_agrees_with_enumeration_within_its_error():
    family = module("RBM, at most 20 units on a side")
    ask, x = lightning_gen.ask(family), points(family, 8)
    exact, bound = ask.log_prob(x), ask.log_prob(x, by=AnnealedLogProb(500, 200))
    assert bound.kind == "upper bound" and 0 < float(bound.error[0]) < 0.02
    difference = (bound.value - exact.value) / bound.error
    assert (difference.abs() < 4).all()


def test_weights_bound_the_density_of_a_linear_decoder():
    """The encoder is off, so that the weights scatter; the bound and its error say by how much."""
    model, density = linear(off=0.3, wide=1.5)
    ask, x = lightning_gen.ask(of(model, (5,))), torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).double()
    result = ask.log_prob(x, by=ImportanceLogProb(4000))
    assert result.kind == "lower bound" and (result.error > 0).all()
    assert ((result.value - density(x)).abs() < 4 * result.error + 1e-3).all()


def test_the_ode_says_how_far_off_it_is():
    """The prior does not know the data's mean, an error that is not the solver's: here sigma(1) is far above it."""
    ask, law = gaussian(VE(0.01, 1e5))
    x = points(ask.module)
    result = ask.log_prob(x, by=ODELogProb(ODELikelihood("rk4", steps=60)))
    difference = (result.value - law(0.01**2).log_prob(x)).abs()
    assert result.kind == "estimate" and (difference < result.error + 2e-4).all() and (result.error < 0.05).all()


def test_a_dequantised_flow_bounds_the_probability_of_an_image():
    """P(k) is the integral of the density over the bins, .2 wide."""
    width, value_range = 0.2, (0.0, 51.0)
    flow = Flow(RealNVP((2,), 8, couplings=2), dequantiser=UniformDequantiser(value_range))
    ask = lightning_gen.ask(of(flow, (2,), value_range=value_range))
    x = torch.tensor([[0.0, 0.4], [0.6, 0.2]], dtype=torch.float64)
    result = ask.log_prob(x, by=NormalisedLogProb(500))
    u = width * ((torch.arange(32, dtype=torch.float64) + 0.5) / 32 - 0.5)
    cells = torch.cartesian_prod(u, u)
    inside = torch.stack([flow.log_prob(point + cells).logsumexp(0) - math.log(len(cells)) for point in x])
    above = inside + 2 * math.log(width) - result.value
    assert result.kind == "lower bound" and (above > -4 * result.error).all() and (above < 0.05).all()


def test_a_probability_of_levels_is_asked_of_levels():
    """8-bit images of 17 levels are within half a grey level of them; others have no such probability."""
    flow = Flow(RealNVP((2,), 8, couplings=2), dequantiser=UniformDequantiser((-1.0, 1.0), 17))
    ask = lightning_gen.ask(of(flow, (2,), value_range=(-1.0, 1.0)))
    stored = torch.tensor([[0, 16], [239, 255]], dtype=torch.float64) / 127.5 - 1
    assert ask.log_prob(stored).value.isfinite().all()
    for wrong in (stored + 0.01, 5 * stored, stored + 0.125):
        with pytest.raises(ValueError, match=r"x has values .* 17 levels of \[-1, 1\]"):
            ask.log_prob(wrong)


def test_a_velocitys_error_is_at_most_50_times_as_large_in_its_score():
    """And mode and ratios are those of data with noise of deviation .02: the score of a Gaussian loses t^2 / s^2."""

    class Off(GaussianVelocity):
        def velocity(self, x, t):
            return super().velocity(x, t) + 1e-3

    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None].expand(9, 2)
    truth, off = (lightning_gen.ask(of(kind(0.7, mean=0.5), (2,))) for kind in (GaussianVelocity, Off))
    t = first_time(truth.model)
    assert t == 0.02 and torch.equal(off.score(x), off.score(x, t))
    assert ((off.score(x, t) - truth.score(x, t)).abs() <= 1e-3 / t).all()
    log_p = -(x - 0.5).square().sum(1) / 0.98
    ratio = log_p - log_p.flip(0)
    torch.testing.assert_close(truth.log_ratio(x, x.flip(0)).value, ratio, rtol=1e-3, atol=1e-12)
    most = 1e-3 / t * 4 * 2  # of the score, on the line from one corner to the other
    assert ((off.log_ratio(x, x.flip(0)).value - ratio).abs() <= most).all()
    for ask, error in ((truth, 2e-3), (off, 0.49 * 1e-3 / t + 2e-3)):
        torch.testing.assert_close(ask.mode(x).x, torch.full_like(x, 0.5), rtol=0, atol=error)


@pytest.mark.parametrize("process", [VP, lambda: VE(0.01, 20.0)])
def test_a_denoised_mean_is_the_posterior_mean_of_a_gaussian(process):
    ask, _ = gaussian(process())
    mean, cov = example()
    x, sigma = points(ask.module), 0.7
    gain = torch.linalg.solve(cov + sigma**2 * torch.eye(2).double(), cov)
    torch.testing.assert_close(ask.denoise(x, sigma), mean + (x - mean) @ gain, rtol=0, atol=1e-9)


def test_the_score_is_that_of_the_noised_density():
    ask, law = gaussian(VE(0.5, 20.0))
    x = points(ask.module).requires_grad_()
    (expected,) = torch.autograd.grad(law(0.5**2).log_prob(x).sum(), x)
    torch.testing.assert_close(ask.score(x.detach(), 0.0), expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(ask.score(x.detach()), expected, rtol=0, atol=1e-9)


def test_a_line_integral_of_the_score_is_the_ratio_of_two_densities():
    ask, law = gaussian(VE(0.5, 20.0))
    a, b = points(ask.module), points(ask.module, seed=1)
    result = ask.log_ratio(a, b)
    torch.testing.assert_close(result.value, law(0.25).log_prob(a) - law(0.25).log_prob(b), rtol=0, atol=1e-9)
    assert (result.error < 1e-9).all()


def test_an_energy_gives_the_ratio_without_its_constant():
    ask = lightning_gen.ask(of(Quadratic(2.0, 0.5, constant=7.0), (3,)))
    a, b = points(ask.module), points(ask.module, seed=1)
    expected = ((b - 0.5).square() - (a - 0.5).square()).sum(1)
    torch.testing.assert_close(ask.log_ratio(a, b).value, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "tolerance"), [("Flow", 1e-10), ("FlowMatching", 1e-3), ("EDM", 1e-3)])
def test_a_bijection_leads_back_and_paths_end_at_their_ends(name, tolerance):
    family = module(name)
    ask, a, b = lightning_gen.ask(family), points(family), points(family, seed=1)
    by = None if name == "Flow" else ODELatent(ODELikelihood("rk4", steps=60))
    torch.testing.assert_close(ask.decode(ask.encode(a, by), by), a, rtol=0, atol=tolerance)
    path = ask.interpolate(a, b, 5, by)
    torch.testing.assert_close(path[0], a, rtol=0, atol=tolerance)
    torch.testing.assert_close(path[-1], b, rtol=0, atol=tolerance)
    assert (path[2] - a).abs().max() > 10 * tolerance


def test_great_circles_keep_the_length_of_codes():
    a, b = (torch.nn.functional.normalize(points(module("Flow"), seed=seed)) for seed in (0, 1))
    path = between(a, b, 7, spherical=True)
    torch.testing.assert_close(path.norm(dim=2), torch.ones(7, N).double())
    torch.testing.assert_close(between(a, a, 3, spherical=True)[1], a)  # no angle, no circle
    torch.testing.assert_close(between(a, b, 3, spherical=False)[1], (a + b) / 2)


def test_a_question_has_its_own_noise():
    """Asked again, with the same seed, a model answers the same; with another seed, another draw."""
    family = module("VAE, Gaussian")
    x = points(family)
    first, again = (lightning_gen.ask(family).log_prob(x).value for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, lightning_gen.ask(family, seed=1).log_prob(x).value)


def test_a_label_is_asked_about_or_none():
    """A conditional model answers about the label for none, or about a class with the guidance of the module."""
    torch.manual_seed(0)
    options = {"classes": 3, "guidance": 2.0}
    family = of(Denoiser(MLP((D,), 8, 1, classes=4), VP()), **options)
    for parameter in family.model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    ask, x = lightning_gen.ask(family), points(family)
    none, one = ask.score(x, 0.5), ask.with_label(1).score(x, 0.5)
    expected = Guided(family.model, torch.ones(N).long(), 2.0, 3).score(x, torch.tensor(0.5))
    torch.testing.assert_close(one, expected)
    assert not torch.allclose(none, one)
    with pytest.raises(ValueError, match="label is 3"):
        ask.with_label(3)
    with pytest.raises(ValueError, match="label_dropout"):
        lightning_gen.ask(of(family.model, label_dropout=0.0, **options)).score(x, 0.5)


@pytest.mark.parametrize(
    ("name", "call", "match"),
    [
        ("Flow", lambda ask, x: ask.log_prob(x[:, :2]), r"x has shape \(6, 2\)"),
        ("Flow", lambda ask, x: ask.log_prob(x / 0), "x holds NaN"),
        ("Flow", lambda ask, x: ask.log_ratio(x, x[:2]), "6 samples and b 2"),
        ("Autoregressive", lambda ask, x: ask.log_prob(x + 0.5), "x has values.*whole numbers below 3"),
        ("Autoregressive", lambda ask, x: ask.log_prob(x + 2), "x has values.*whole numbers below 3"),
        ("RBM, more units", lambda ask, x: ask.log_prob(x[:1]), "x has 1 sample"),
        ("ScoreSDE", lambda ask, x: ask.score(x, 0.0), "t is 0"),
        ("ScoreSDE", lambda ask, x: ask.score(x, 1.5), "t is 1.5"),
        ("Flow", lambda ask, x: ask.score(x, 0.5), "t is 0.5, expected 0"),
        ("DDPM", lambda ask, x: ask.score(x, 0.01), "t is 0.01"),
        ("ScoreSDE", lambda ask, x: ask.denoise(x, 0.0), "sigma is 0"),
        ("NCSN", lambda ask, x: ask.denoise(x, 9.0), "alpha.*expected within"),
        ("Flow", lambda ask, x: ask.log_prob(x, by=ODELogProb()), "ODELikelihood needs"),
        ("GAN", lambda ask, x: ask.log_prob(x, by=ODELogProb()), "ODELogProb needs"),
    ],
)
def test_wrong_input_is_refused_with_the_value(name, call, match):
    family = module(name)
    with pytest.raises((TypeError, ValueError), match=match):
        call(lightning_gen.ask(family), points(family))


def test_a_conditional_energy_answers_about_a_class_as_the_energy_of_that_class():
    """Without guidance it stays an energy, for questions and for samplers that need one."""
    torch.manual_seed(0)
    net = MLP((D,), 8, 1, classes=4)
    family = of(EnergyNetwork(net, None, "norm", 1.0), classes=3, sampler=MALA(3, 0.01, start="normal"))
    x = points(family)
    ask, model = lightning_gen.ask(family, label=1), family.model.with_label(torch.ones(N).long())
    torch.testing.assert_close(ask.log_ratio(x, x.flip(0)).value, model.energy(x.flip(0)) - model.energy(x))
    assert ask.inpaint(x, torch.arange(D) < 2).isfinite().all()
    assert family.float().sample(N).isfinite().all()


def test_a_model_of_latent_variables_is_not_asked_about_data():
    family = of(Denoiser(MLP((2,), 8, 1), VP()), autoencoder=models.VAE(Linear(D, 2), "gaussian"))
    with pytest.raises(TypeError, match="latent variables.*ask the VAE"):
        lightning_gen.ask(family)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda ask, x: ask.inpaint(x[0], torch.arange(D) < 2), "x has shape"),
        (lambda ask, x: ask.decode(torch.full((N, D), math.nan)), "z holds NaN"),
        (lambda ask, x: ask.posterior(torch.full((N, 1), math.nan), torch.ones(1, D), 1.0), "y holds NaN"),
        (lambda ask, x: ask.posterior(torch.zeros(N, 1), torch.ones(1, D), math.inf), "sigma is inf"),
        (lambda ask, x: ask.decode(torch.zeros(1, 2 * D)), "z has shape"),
    ],
)
def test_a_question_with_wrong_input_is_refused(call, sentence):
    family = module("ScoreSDE")
    with pytest.raises(ValueError, match=sentence):
        call(lightning_gen.ask(family), points(family))


def test_a_question_without_an_answer_is_refused_whatever_x_is():
    """The zeros in the place of what is drawn do not lie in the support of a Beta density, which is not the reason."""
    family = of(models.Beta([1.0, 2.0], [1.0, 2.0]), shape=(2,))
    with pytest.raises(TypeError, match="inpaint.*needs.*Beta, over numbers from 0 to 1 without the ends"):
        lightning_gen.ask(family).inpaint(torch.full((N, 2), 0.5), torch.tensor([True, False]))

"""Normalising flows: log p integrates to one, annealing finds log Z = 0, samples follow it, bounds are bounds."""

import math

import numpy as np
import pytest
import torch

from lightning_gen.data import Moons
from lightning_gen.likelihood import annealing_path, log_weights, partition, temperatures, tuned_steps
from lightning_gen.losses import (
    NCE,
    ContrastiveDivergence,
    DenoisingScoreMatching,
    ExactScoreMatching,
    NegativeLogLikelihood,
    SlicedScoreMatching,
    constant,
)
from lightning_gen.models import Flow, SumOfEnergies
from lightning_gen.nets import MAF, NICE, NSF, MixtureFlow, RealNVP
from lightning_gen.nets.flows import Logit, UniformDequantiser, VariationalDequantiser
from lightning_gen.process import VE
from lightning_gen.samplers import MALA, Exact
from tests.nets.test_flows import log_dets, perturbed

F64 = {"dtype": torch.float64}
NETS = {
    "RealNVP": lambda: RealNVP((2,), 16, couplings=4),
    "NICE": lambda: NICE((2,), 16),
    "MAF": lambda: MAF((2,), 16, transforms=3),
    "NSF": lambda: NSF((2,), 16, transforms=3),
    "MixtureFlow": lambda: MixtureFlow((2,), 16, couplings=2, components=4),
}
TWO_PIXELS = (1, 1, 2)


def data(n=4000):
    moons = Moons(n=n, val_size=100, test_size=500, noise=0.15)
    moons.setup()
    return moons.split("train").take(slice(None)).double()


def density(name):
    """A perturbed flow in the plane, of about the moons' scale."""
    model = Flow(perturbed(NETS[name]))
    model.initialise(data(500))
    return model


@pytest.fixture(scope="module")
def trained():
    """RealNVP after 150 steps of maximum likelihood on the moons, and the loss of each."""
    torch.manual_seed(1)
    model, x, loss = Flow(NETS["RealNVP"]().double()), data(), NegativeLogLikelihood()
    model.initialise(x)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    nats = []
    for _ in range(150):
        value = loss(model, x[torch.randint(len(x), (256,))], None).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        nats.append(float(value.detach()))
    return model, nats


def grid(low, high, n):
    """Points (n^2, 2) of the midpoint rule on a square, and the area of a cell."""
    line = low + (high - low) * (torch.arange(n, **F64) + 0.5) / n
    return torch.cartesian_prod(line, line), ((high - low) / n) ** 2


def integral(model, low=-6.0, high=6.0, n=240):
    x, cell = grid(low, high, n)
    with torch.no_grad():
        return float(model.log_prob(x).exp().sum()) * cell


@pytest.mark.parametrize("name", NETS)
def test_the_density_integrates_to_one(name):
    box = 9 if name == "MixtureFlow" else 6  # whose tails are longer
    value = integral(density(name), -box, box, 40 * box)
    assert value == pytest.approx(1, abs=1e-3 if name == "NSF" else 1e-8)  # a spline has kinks


def test_training_raises_the_likelihood_and_keeps_the_law(trained):
    model, nats = trained
    assert sum(nats[-10:]) / 10 < sum(nats[:10]) / 10 - 0.15
    assert integral(model, -3.0, 3.0) == pytest.approx(1, abs=1e-3)
    x = data(50)
    z, log_det = model.encode(x)
    assert (model.decode(z) - x).abs().max() <= 1e-10
    assert (log_det - log_dets(model.encode, x)).abs().max() <= 1e-10


def test_of_a_trained_flow_float32s_error_is_small(trained):
    """Measured here: at most 2e-5 in x and in log p."""
    import copy

    model, x = copy.deepcopy(trained[0]).float(), data(500)
    z, log_det = model.encode(x.float())
    assert (model.decode(z) - x.float()).abs().max() <= 1e-3
    assert (log_det.double() - trained[0].encode(x)[1]).abs().max() <= 1e-3


def test_log_p_is_the_change_of_variables():
    model, x = density("RealNVP"), data(20)
    z = model.encode(x)[0]
    expected = -0.5 * z.square().sum(1) - math.log(2 * math.pi) + log_dets(model.encode, x)
    torch.testing.assert_close(model.log_prob(x), expected, rtol=0, atol=1e-10)
    assert torch.equal(model.energy(x), -model.log_prob(x)) and float(model.log_z()) == 0


@pytest.mark.parametrize("name", NETS)
def test_exact_samples_have_the_density(name):
    """E log p over samples is minus the entropy by quadrature, and so is the mean of x that of the density."""
    model, n = density(name), 10_000
    points, cell = grid(-6.0, 6.0, 200)
    with torch.no_grad():
        log_p = model.log_prob(points)
        x = Exact().draw(model, (n, 2), torch.Generator().manual_seed(0)).double()
        drawn = model.log_prob(x)
    p = log_p.exp() * cell
    assert float(drawn.mean()) == pytest.approx(float((p * log_p).sum()), abs=4 * float(drawn.std()) / n**0.5 + 1e-3)
    error = 4 * x.std(0) / n**0.5 + 1e-3
    assert ((x.mean(0) - (p.unsqueeze(1) * points).sum(0)).abs() <= error).all()


@pytest.mark.parametrize("name", ["RealNVP", pytest.param("NSF", marks=pytest.mark.slow)])
def test_annealing_finds_that_log_z_is_zero(name):
    model, g = density(name), torch.Generator().manual_seed(0)
    x = data(500)
    path = annealing_path(model, x.mean(0), x.var(0), MALA(1, 0.2))
    betas = temperatures(60 if name == "RealNVP" else 200)
    path.tune(tuned_steps(path, betas, 50, g))
    found = partition(path, log_weights(path, betas, path.start(3000 if name == "RealNVP" else 8000, g), g))
    assert found.error <= 0.0125
    assert abs(found.log_z) <= min(4 * found.error, 0.05)


@pytest.mark.parametrize("name", NETS)
def test_the_score_is_the_gradient_of_log_p(name):
    model, x, h = density(name), data(10), 1e-6
    score = model.score(x, torch.zeros((), **F64))
    for i in range(2):
        step = h * torch.eye(2, **F64)[i]
        slope = (model.log_prob(x + step) - model.log_prob(x - step)).detach() / (2 * h)
        torch.testing.assert_close(score[:, i], slope, rtol=1e-4, atol=1e-5)


def losses():
    chain = ContrastiveDivergence(MALA(5, 0.05))
    return [NegativeLogLikelihood(), ExactScoreMatching(), SlicedScoreMatching(), NCE(1.5), chain]


@pytest.mark.parametrize("loss", losses(), ids=lambda loss: type(loss).__name__)
def test_a_loss_on_a_smooth_flow_has_finite_gradients(loss):
    model, x = density("RealNVP"), data(32)
    loss.check(model)
    loss(model, x, torch.Generator().manual_seed(0)).mean().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)
    assert sum(float(gradient.square().sum()) for gradient in gradients) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["likelihood", "exact", "sliced", "denoising", "nce", "chains"])
def test_any_loss_learns_a_density(name):
    """Correlated Gaussian data: the cross-entropy comes within 0.1 nats of the entropy by every loss."""
    loss = dict(zip(["likelihood", "exact", "sliced", "nce", "chains"], losses(), strict=True)) | {
        "denoising": DenoisingScoreMatching(constant(0.0), "simple", "sum")
    }
    sigma = 0.3 if name == "denoising" else 0.0
    torch.manual_seed(0)
    root = torch.tensor([[1.0, 0.0], [0.6, 0.5]], **F64)
    x = torch.randn(20_000, 2, **F64) @ root.T
    model = Flow(RealNVP((2,), 16, couplings=3).double(), VE(sigma, sigma) if sigma else None)
    g, optimizer = torch.Generator().manual_seed(0), torch.optim.Adam(model.parameters(), lr=5e-3)
    steps = 1500
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        value = loss[name](model, x[torch.randint(len(x), (256,))], g).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    law = torch.distributions.MultivariateNormal(torch.zeros(2, **F64), root @ root.T + sigma**2 * torch.eye(2))
    test = law.sample((5000,))
    with torch.no_grad():
        gap = float((law.log_prob(test) - model.log_prob(test)).mean())
    assert -0.02 <= gap <= 0.1


@pytest.mark.parametrize("loss", [ExactScoreMatching(), SlicedScoreMatching()], ids=["exact", "sliced"])
def test_a_score_that_jumps_has_no_divergence_to_match(loss):
    """Neural spline flows gave -13 nats where exact score matching trained them."""
    spline, ramp = density("NSF"), Flow(RealNVP((2,), 8, activation="relu"))
    for model, word in ((spline, "NSF|spline"), (ramp, "relu"), (SumOfEnergies(density("MAF"), spline), "spline")):
        with pytest.raises(TypeError, match=f"{type(loss).__name__}.*{word}"):
            loss.check(model)
    loss.check(SumOfEnergies(density("MAF"), density("RealNVP")))
    for other in (NegativeLogLikelihood(), NCE(1.0), ContrastiveDivergence(MALA(1))):
        other.check(spline)


# Images: two pixels, so that quadrature gives every number


def image(dequantiser=UniformDequantiser, levels=256):
    torch.manual_seed(0)
    made = dequantiser((-1.0, 1.0), levels)
    net = perturbed(lambda: RealNVP(TWO_PIXELS, 8, couplings=2, scales=1))
    model = Flow(net, dequantiser=made, logit=Logit((-1.0, 1.0), 0.05, levels)).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def test_with_its_logit_a_density_integrates_to_one_over_its_interval():
    points, cell = grid(-1.2, 1.2, 300)
    with torch.no_grad():
        log_p = image().log_prob(points.view(-1, *TWO_PIXELS))
    assert float(log_p.exp().sum()) * cell == pytest.approx(1, abs=1e-4)
    assert log_p.isneginf().any() and not log_p.isnan().any()


@pytest.mark.parametrize("levels", [5, 256])
@pytest.mark.parametrize(
    "make",
    [UniformDequantiser, lambda r, levels: VariationalDequantiser(r, TWO_PIXELS, 8, levels)],
    ids=["uniform", "variational"],
)
def test_the_loss_of_dequantised_levels_bounds_their_probability(make, levels):
    """log P(k) by quadrature over the bin is at least E log p(y) - log q(y|x), and E p(y)/q(y|x) is P(k)."""
    model, w, n = image(make, levels), 2 / (levels - 1), 20_000
    for pair in ([0.0, 0.75], [0.75, 0.5]):
        x = torch.tensor([pair], **F64).mul(levels - 1).floor() * w - 1  # two levels
        offsets, cell = grid(-w / 2, w / 2, 20)
        with torch.no_grad():
            exact = (model.log_prob((x + offsets).view(-1, *TWO_PIXELS)).exp().sum() * cell).log()
            loss = NegativeLogLikelihood()(
                model, x.view(1, *TWO_PIXELS).expand(n, -1, -1, -1), torch.Generator().manual_seed(0)
            )
        assert float(-loss.mean()) <= float(exact) + 1e-4
        ratios = (-loss - exact).exp()
        assert float(ratios.mean()) == pytest.approx(1, abs=4 * float(ratios.std()) / n**0.5 + 1e-4)


@pytest.mark.parametrize("levels", [3, 17])
def test_exact_samples_are_rounded_to_levels_with_their_probabilities(levels, nodes=12):
    """P(k), the integral of p over the bins of k, 2/(K - 1) wide; the rest, by the logit's margin, is outside."""
    model, w = image(levels=levels), 2 / (levels - 1)
    points, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(nodes))
    offsets, cells = torch.cartesian_prod(points, points) * w / 2, torch.outer(weights, weights).flatten() * w**2 / 4
    line = torch.linspace(-1, 1, levels, **F64)
    pairs = torch.cartesian_prod(line, line)
    with torch.no_grad():
        density = model.log_prob((pairs[:, None] + offsets).view(-1, *TWO_PIXELS)).exp().view(len(pairs), -1)
        y = Exact().draw(model, (20_000, *TWO_PIXELS), torch.Generator().manual_seed(0)).flatten(1)
    p = density @ cells
    assert 0.9 < float(p.sum()) < 1
    k = ((model.dequantiser.nearest(y.double()) + 1) / w).round().long()
    k = k[((k >= 0) & (k < levels)).all(1)]
    counts = torch.bincount(k[:, 0] * levels + k[:, 1], minlength=levels**2)
    p, counts = torch.cat([p, 1 - p.sum(0, keepdim=True)]), torch.cat([counts, torch.tensor([len(y) - len(k)])])
    expected = p * len(y)
    likely = expected >= 5
    chi, free = ((counts - expected).square() / expected)[likely].sum(), int(likely.sum()) - 1
    assert abs(float(chi) - free) < 5 * (2 * free) ** 0.5


def test_initialisation_standardises_every_actnorm_and_only_when_asked():
    model = Flow(RealNVP((2,), 8, couplings=2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = 3 + 2 * torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    model.log_prob(x)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.initialise(x)
    z = model.encode(x)[0]
    torch.testing.assert_close(z.mean(0), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(2), rtol=0, atol=1e-5)

"""Exact and sliced score matching: the Fisher divergence to the data, but for a constant, without the data's score."""

import pytest
import torch

from lightning_gen.check.known import Density
from lightning_gen.losses import ExactScoreMatching, SlicedScoreMatching
from lightning_gen.models import EnergyNetwork, ScoreNetwork
from lightning_gen.nets import UNet
from lightning_gen.process import VE, VP, Clean
from tests.gaussian import Gaussian, example
from tests.losses.nets import MODELS, model, quadrature

PROJECTIONS = ("rademacher", "gaussian")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def points(n, *shape, seed=3):
    return torch.randn(n, *shape, generator=seeded(seed), dtype=torch.float64)


def gradients(value, scored):
    return torch.autograd.grad(value, list(scored.parameters()))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(3,), (1, 2, 2)])
def test_exact_is_half_the_square_and_the_trace_of_the_jacobian(name, shape):
    x = points(4, *shape)
    scored = model(name, d=x[0].numel())

    def score(place):
        return scored.score(place[None], torch.zeros(1))[0]

    expected = []
    for place in x:
        jacobian = torch.autograd.functional.jacobian(score, place).reshape(x[0].numel(), -1)
        expected.append(0.5 * score(place).square().sum() + jacobian.trace())
    torch.testing.assert_close(ExactScoreMatching()(scored, x, seeded()), torch.stack(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_exact_is_the_fisher_divergence_less_a_constant_and_has_its_gradient(name):
    """E[1/2 ||s||^2 + tr grad s] = 1/2 E||s - grad log p||^2 - 1/2 E||grad log p||^2, whatever s: by quadrature."""
    x, weight = quadrature()
    truth = Gaussian(VP(), *example()).score(x, torch.zeros(()))
    constant = torch.linalg.inv(example()[1]).trace() / 2
    for seed in (0, 1):
        scored = model(name, seed=seed)
        implicit = (weight * ExactScoreMatching()(scored, x, seeded())).sum()
        explicit = (weight * 0.5 * (scored.score(x, torch.zeros(())) - truth).square().sum(1)).sum()
        torch.testing.assert_close(implicit, explicit - constant, rtol=1e-10, atol=1e-10)
        for a, b in zip(gradients(implicit, scored), gradients(explicit, scored), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_the_divergence_is_averaged_over_the_data():
    """D_F(p_data, p_model), the square in it averaged over the data, and not D_F(p_model, p_data): by quadrature."""
    (x, weight), (mean, cov) = quadrature(), example()
    model = Density(Gaussian(Clean(), mean + 0.5, 2 * cov))
    value = float((weight * ExactScoreMatching()(model, x, seeded())).sum().detach())
    precision = torch.linalg.inv(2 * cov)
    known, other = (
        float(0.5 * (precision @ second @ precision).trace() - precision.trace())
        for second in (cov + 0.25 * torch.ones(2, 2).double(), 2 * cov)  # of x - mean_model under either law
    )
    assert value == pytest.approx(known, rel=1e-10) != pytest.approx(other, rel=0.1)


@torch.no_grad()
def test_exact_at_the_truth_is_the_least():
    """There it is -1/2 E||grad log p||^2, with noise at one level too."""
    mean, cov = example()
    for process, total in ((VP(), cov), (VE(0.7, 0.7), cov + 0.49 * torch.eye(2).double())):
        truth = Gaussian(process, mean, cov)
        x = mean + points(20_000, 2) @ torch.linalg.cholesky(cov).T
        value = ExactScoreMatching()(truth, x, seeded())
        least = -torch.linalg.inv(total).trace() / 2
        assert abs(float(value.mean() - least)) < 4 * float(value.std()) / len(x) ** 0.5


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "loss",
    [ExactScoreMatching(), SlicedScoreMatching(), SlicedScoreMatching(2, False, "gaussian")],
    ids=["exact", "sliced", "plain"],
)
def test_weights_get_the_derivative_of_the_loss(name, loss):
    scored, x = model(name), points(3, 2)
    value = loss(scored, x, seeded()).sum()
    step = 1e-5
    for parameter, gradient in zip(scored.parameters(), gradients(value, scored), strict=True):
        direction = points(*parameter.shape, seed=9)
        with torch.no_grad():
            parameter += step * direction
            above = loss(scored, x, seeded()).sum()
            parameter -= 2 * step * direction
            below = loss(scored, x, seeded()).sum()
            parameter += step * direction
        assert float((above - below) / (2 * step)) == pytest.approx(float((gradient * direction).sum()), rel=1e-7)


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("reduced", [True, False])
@pytest.mark.parametrize("name", ["score", "reconstruction"])
def test_sliced_is_exact_in_expectation(name, reduced, projection, n=20_000):
    scored, x = model(name), points(3, 2)
    with torch.no_grad():
        expected = ExactScoreMatching()(scored, x, seeded())
        many = SlicedScoreMatching(1, reduced, projection)(scored, x.repeat(n, 1), seeded()).reshape(n, 3)
    assert ((many.mean(0) - expected).abs() < 4 * many.std(0) / n**0.5).all()


@pytest.mark.parametrize("reduced", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_in_one_dimension_signs_lose_nothing(name, reduced):
    """v = 1 or -1: v^2 = 1, so sliced is exact draw by draw, and its gradient too."""
    scored, x = model(name, d=1), points(5, 1)
    one, other = SlicedScoreMatching(1, reduced)(scored, x, seeded()), ExactScoreMatching()(scored, x, seeded())
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    for a, b in zip(gradients(one.sum(), scored), gradients(other.sum(), scored), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("cov", [example()[1], torch.eye(8).double()], ids=["correlated", "isotropic"])
@torch.no_grad()
def test_the_noise_of_both_forms_at_a_gaussians_score(cov, projection, n=40_000):
    """Var v^T A v = Q(A) = 2 ||A||^2 for normal v, 2 (||A||^2 - sum A_ii^2) for signs: reduced has Q(P), as the trace
    alone is drawn, and plain E Q(s s^T) / 4, since E[s s^T] = P cancels the trace's part in it.

    So reduced is the quieter where (tr P)^2 > 2 ||P||^2 (normal v), as in many dimensions, not always in two.
    """
    mean, precision = torch.ones(len(cov)).double(), torch.linalg.inv(cov)
    truth, x = Gaussian(VP(), mean, cov), mean + points(n, len(cov)) @ torch.linalg.cholesky(cov).T
    whole = ExactScoreMatching()(truth, x, seeded())
    reduced, plain = (
        (SlicedScoreMatching(1, flag, projection)(truth, x, seeded(1)) - whole).square() for flag in (True, False)
    )
    squares, traces = precision.square().sum(), precision.trace() ** 2
    own = precision.diagonal().square().sum() if projection == "rademacher" else 0
    assert abs(float(reduced.mean() - 2 * (squares - own))) < 4 * float(reduced.std()) / n**0.5 + 1e-9
    assert abs(float(plain.mean() - (traces + 2 * squares - 3 * own) / 2)) < 4 * float(plain.std()) / n**0.5
    if len(cov) == 8:
        assert float((plain - reduced).mean()) > 4 * float((plain - reduced).std()) / n**0.5


def test_projections_are_averaged(n=20_000):
    scored, x = model("score"), points(1, 2).repeat(n, 1)
    with torch.no_grad():
        one, four = (SlicedScoreMatching(m, True, "gaussian")(scored, x, seeded()) for m in (1, 4))
    assert float(one.var() / four.var()) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("loss", [ExactScoreMatching(0.5), SlicedScoreMatching(t=0.5)], ids=["exact", "sliced"])
@pytest.mark.parametrize("process", [VE(0.1, 2.0), VP()])
def test_noised_data_are_x_t(loss, process):
    """The same as of clean data where the noise is added beforehand, and at the time that is told."""
    noised, x = Gaussian(process, *example()), points(6, 2)
    g = seeded(4)
    noise = torch.randn(x.shape, generator=g, dtype=torch.float64)
    time = torch.full((6,), 0.5, dtype=torch.float64)

    class At(ScoreNetwork):
        def score(self, x, t):
            return noised.score(x, time)

    clean = At(torch.nn.Identity())
    torch.testing.assert_close(loss(noised, x, seeded(4)), loss(clean, process.perturb(x, time, noise), g))


@pytest.mark.parametrize("loss", [ExactScoreMatching(), SlicedScoreMatching()], ids=["exact", "sliced"])
@pytest.mark.parametrize("name", MODELS)
def test_validation_without_gradients_gives_the_same_plain_values(name, loss):
    scored, x = model(name), points(4, 2)
    trained = loss(scored, x, seeded())
    with torch.no_grad():
        plain = loss(scored, x, seeded())
    assert trained.requires_grad and not plain.requires_grad
    assert torch.equal(trained.detach(), plain)
    assert not x.requires_grad


@pytest.mark.parametrize("loss", [ExactScoreMatching(), SlicedScoreMatching()], ids=["exact", "sliced"])
def test_a_score_that_is_the_same_everywhere_has_no_trace(loss):
    class Flat(ScoreNetwork):
        def score(self, x, t):
            return self.net.expand(len(x), 2)

    flat = Flat(torch.nn.Identity())
    flat.net = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    value = loss(flat, torch.zeros(2, 2), seeded())
    torch.testing.assert_close(value, torch.full((2,), 12.5))


@pytest.mark.parametrize("make", [ScoreNetwork, EnergyNetwork])
def test_a_unet_with_attention_learns_by_sliced_score_matching(make):
    """Its fused attention has no second derivative; the loss takes one that has."""
    torch.manual_seed(0)
    scored = make(UNet((1, 4, 4), channels=4, multipliers=(1,), blocks=1, attention=(4,), dropout=0, groups=2))
    for parameter in scored.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1)
    x = torch.randn(8, 1, 4, 4)
    value = SlicedScoreMatching()(scored, x, seeded()).mean()
    value.backward()
    attention = scored.net.middle[0].attention.qkv.weight.grad
    assert torch.isfinite(attention).all() and attention.abs().max() > 0


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SlicedScoreMatching(0), "projections.*0"),
        (lambda: SlicedScoreMatching(projection="uniform"), "projection.*uniform"),
        (lambda: SlicedScoreMatching(t=-0.1), "t.*-0.1"),
        (lambda: ExactScoreMatching(2.0), "t.*2.0"),
        (lambda: ExactScoreMatching()(model("score"), torch.zeros(1, 1001), seeded()), "1001.*1000.*Sliced"),
    ],
)
def test_wrong_options_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()

"""The toys' densities and scores in closed form."""

import pytest
import torch

from lightning_gen.data import Checkerboard, Gaussians, Moons, Rings
from tests.data.sets import ready

SETS = {"rings": Rings, "moons": Moons, "gaussians": Gaussians, "checkerboard": lambda: Checkerboard(noise=0.1)}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(("variance", "alpha"), [(0.0, 1.0), (0.04, 1.0), (0.3, 0.6)])
def test_the_density_integrates_to_one_and_is_that_of_the_points(name, variance, alpha):
    """On a grid; and the mean of the log density over drawn points is its integral, |z| <= 4."""
    data = ready(SETS[name]())
    side = torch.linspace(-4.5, 4.5, 226, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    logs = data.log_density(grid, variance, alpha)
    cell = float(side[1] - side[0]) ** 2
    assert float(logs.exp().sum()) * cell == pytest.approx(1, abs=1e-6)
    entropy = float((logs.exp() * logs.clamp(min=-1e4)).sum()) * cell
    points = data.split("train").points(slice(None)).double()
    noise = torch.randn(points.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = data.log_density(alpha * points + variance**0.5 * noise, variance, alpha)
    assert abs(float(drawn.mean()) - entropy) < 4 * float(drawn.std()) / len(drawn) ** 0.5


@pytest.mark.parametrize("name", SETS)
def test_the_score_is_the_slope_of_the_log_density(name):
    """By differences; and by autograd with a noise and a scale for each point."""
    data, h = SETS[name](), 1e-5
    place = torch.Generator().manual_seed(1)
    x = 1.5 * torch.randn(50, 2, generator=place, dtype=torch.float64)
    slopes = [
        (data.log_density(x + step, 0.05, 0.8) - data.log_density(x - step, 0.05, 0.8)) / (2 * h)
        for step in torch.eye(2).double() * h
    ]
    torch.testing.assert_close(data.score(x, 0.05, 0.8), torch.stack(slopes, 1), rtol=1e-5, atol=1e-5)
    variance, alpha = torch.rand(2, 50, generator=place, dtype=torch.float64) + 0.01
    x.requires_grad_()
    (slope,) = torch.autograd.grad(data.log_density(x, variance, alpha).sum(), x)
    torch.testing.assert_close(data.score(x.detach(), variance, alpha), slope, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", SETS)
def test_a_scale_of_all_points_and_their_noise_shrinks_the_score(name):
    """Of c x with noise c^2 v the score is 1/c of that of x with noise v, and the density 1/c^2."""
    data, c = SETS[name](), 0.3
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(data.score(c * x, c**2 * 0.05, c), data.score(x, 0.05) / c)
    torch.testing.assert_close(data.log_density(c * x, c**2 * 0.05, c).exp(), data.log_density(x, 0.05).exp() / c**2)


def test_far_from_the_rings_and_at_their_middle_nothing_overflows():
    data = Rings()
    x = torch.tensor([[0.0, 0.0], [30.0, -40.0]])
    assert torch.isfinite(data.score(x, 0.0)).all()
    assert float(data.score(x, 0.0)[1].norm()) == pytest.approx((50 - 2) / 0.05**2, rel=1e-2)


def test_what_has_no_density_is_refused():
    with pytest.raises(ValueError, match="checkerboard.*data.noise"):
        Checkerboard().score(torch.zeros(1, 2), 0.0)

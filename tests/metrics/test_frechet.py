"""The Frechet distance against closed forms, torch-fidelity and torchmetrics; its statistics against the whole."""

import numpy as np
import pytest
import torch
from torch import nn

from lightning_gen.errors import NonFinite
from lightning_gen.metrics import FrechetStatistics, frechet_distance, moments
from lightning_gen.metrics.frechet import ROWS
from tests.metrics.reference_metrics import AsTheyAre, cloud


def _rotation(d: int) -> torch.Tensor:
    return torch.linalg.qr(cloud(d, d, 7))[0]


@pytest.mark.parametrize("d", [1, 2, 16, 64])
def test_commuting_gaussians_have_the_closed_form(d):
    q, draw = _rotation(d), torch.Generator().manual_seed(d)
    a, b = torch.rand(2, d, generator=draw, dtype=torch.float64) * 3
    mean_a, mean_b = torch.randn(2, d, generator=draw, dtype=torch.float64)
    exact = (mean_a - mean_b).square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    found = frechet_distance(mean_a, q * a @ q.T, mean_b, q * b @ q.T)
    assert found == pytest.approx(float(exact), rel=1e-8)


def test_plane_gaussians_that_do_not_commute():
    a = torch.tensor([[2.0, 0.7], [0.7, 0.5]], dtype=torch.float64)
    b = torch.tensor([[0.4, -0.3], [-0.3, 1.9]], dtype=torch.float64)
    assert not torch.allclose(a @ b, b @ a)
    # eigenvalues of (AB)^(1/2) in two dimensions: (s + t)^2 = tr AB + 2 sqrt(det AB)
    root = (torch.trace(a @ b) + 2 * torch.det(a @ b).sqrt()).sqrt()
    exact = torch.trace(a) + torch.trace(b) - 2 * root
    zero = torch.zeros(2, dtype=torch.float64)
    assert frechet_distance(zero, a, zero, b) == pytest.approx(float(exact), rel=1e-8)
    assert frechet_distance(zero, a, zero, b) == pytest.approx(frechet_distance(zero, b, zero, a), rel=1e-12)


def test_small_distances_do_not_drown_in_rounding():
    a = cloud(500, 32, 1)
    mean, cov = moments(a)
    step = 1e-9
    grown = cov * (1 + step) ** 2
    assert frechet_distance(mean, cov, mean, grown) == pytest.approx(step**2 * float(cov.trace()), rel=1e-4, abs=0)


@pytest.mark.parametrize("n", [10, 63, 200])
def test_equal_inputs_are_at_zero_and_never_below(n):
    mean, cov = moments(cloud(n, 64, n))
    assert 0 <= frechet_distance(mean, cov, mean, cov) < 1e-12
    other, spread = moments(cloud(n, 64, n + 1))
    ours = frechet_distance(mean, cov, other, spread)
    assert np.isfinite(ours) and ours > 0.1  # fewer samples than dimensions are welcome


@pytest.mark.parametrize("n", [40, 400])
def test_equals_torch_fidelity(n):
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    a, b = cloud(n, 24, 1), cloud(n + 50, 24, 2, scale=1.3, offset=0.2)
    theirs = fid_statistics_to_metric(*map(fid_features_to_statistics, (a, b)), False)["frechet_inception_distance"]
    assert frechet_distance(*moments(a), *moments(b)) == pytest.approx(theirs, rel=1e-9)
    # Of float32 features torch-fidelity keeps the mean in float32, and there the two part.
    a, b = a.float(), b.float()
    theirs = fid_statistics_to_metric(*map(fid_features_to_statistics, (a, b)), False)["frechet_inception_distance"]
    assert frechet_distance(*moments(a), *moments(b)) == pytest.approx(theirs, rel=1e-5)


def test_equals_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance

    a, b = cloud(300, 12, 1), cloud(350, 12, 2, scale=1.3, offset=0.2)
    theirs = FrechetInceptionDistance(feature=AsTheyAre(12)).set_dtype(torch.float64)
    theirs.update(a, real=True)
    theirs.update(b, real=False)
    assert frechet_distance(*moments(a), *moments(b)) == pytest.approx(float(theirs.compute()), rel=1e-9)


def test_statistics_of_parts_are_those_of_the_whole():
    x = cloud(501, 9, 3, offset=5.0)
    whole, left, right, empty = (FrechetStatistics(9) for _ in range(4))
    whole.update(x)
    for part in x[:101].split(7):
        left.update(part)
    right.update(x[101:])
    empty.update(x[:0])
    left.merge_state(right)
    left.merge_state(empty)
    for ours, theirs in zip(left.compute(), whole.compute(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_covariance_divides_by_n_minus_1():
    x = cloud(11, 4, 4)
    mean, cov = moments(x)
    np.testing.assert_allclose(cov.numpy(), np.cov(x.numpy(), rowvar=False), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(mean.numpy(), x.numpy().mean(0), rtol=1e-13)


def test_a_large_mean_costs_no_digits():
    x = cloud(400, 5, 5)
    torch.testing.assert_close(moments(x + 1e7)[1], torch.cov(x.T), rtol=1e-7, atol=1e-8)


def test_the_order_of_many_samples_costs_no_digits():
    x = cloud(3 * ROWS + 5, 3, 4).double().sort(0).values + 1e7  # the first are far from the mean of all
    mean, cov = moments(x)
    torch.testing.assert_close(mean, x.mean(0), rtol=1e-15, atol=0)
    torch.testing.assert_close(cov, torch.cov((x - x.mean(0)).T), rtol=1e-12, atol=0)
    assert torch.equal(cov, cov.mT)
    for row, value in ((0, float("nan")), (-1, float("inf")), (ROWS, -float("inf"))):
        bad = x.clone()
        bad[row, 1] = value
        with pytest.raises(NonFinite):
            moments(bad)


@pytest.mark.parametrize(
    "cast", [lambda m: m.to(torch.bfloat16), lambda m: m.half(), lambda m: nn.ModuleList([m]).to(torch.bfloat16)[0]]
)
def test_sums_stay_float64_when_a_parent_is_cast(cast):
    x = cloud(50, 4, 6)
    statistics = FrechetStatistics(4, shift=x[0])
    statistics.update(x[:20])
    statistics = cast(statistics)
    statistics.update(x[20:])
    assert statistics.total.dtype == torch.float64
    torch.testing.assert_close(statistics.compute()[1], torch.cov(x.T), rtol=1e-12, atol=1e-13)


def test_reset_forgets():
    statistics = FrechetStatistics(4)
    statistics.update(cloud(20, 4, 1))
    statistics.reset()
    statistics.update(cloud(30, 4, 2))
    torch.testing.assert_close(statistics.compute()[1], torch.cov(cloud(30, 4, 2).T))


def test_what_is_no_number_or_no_covariance_is_refused():
    x = cloud(20, 4, 1)
    bad = x.clone()
    bad[3, 2] = float("nan")
    with pytest.raises(NonFinite):
        FrechetStatistics(4).update(bad)
    mean, cov = moments(x)
    with pytest.raises(NonFinite, match="cov_b"):
        frechet_distance(mean, cov, mean, cov * float("inf"))
    with pytest.raises(ValueError, match="cov.*eigenvalue"):
        frechet_distance(mean, -cov, mean, cov)
    one = FrechetStatistics(4)
    one.update(x[:1])
    with pytest.raises(ValueError, match="2 samples"):
        one.compute()
    with pytest.raises(ValueError, match="shift"):
        FrechetStatistics(4).merge_state(FrechetStatistics(4, shift=torch.ones(4)))

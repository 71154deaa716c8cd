"""The sliced Wasserstein distance against its definition, and where it sees more than means and covariances."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from lightning_gen.metrics import frechet_of_features, moments, sliced_wasserstein
from tests.metrics.reference_metrics import cloud


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("n", "m"), [(12, 12), (6, 9), (8, 3), (2, 5)])
def test_on_a_line_it_is_the_least_cost_of_all_matchings(n, m):
    """Of unlike numbers: each value copied until both are n m."""
    x, y = cloud(n, 1, 1), cloud(m, 1, 2, scale=1.5, offset=0.4)
    cost = (x.repeat_interleave(m, 0) - y.repeat_interleave(n, 0).T).square().numpy()
    least = cost[linear_sum_assignment(cost)].mean()
    assert sliced_wasserstein(x, y, draw(), directions=3).value == pytest.approx(least, rel=1e-12)


def test_a_shift_has_its_squared_length_over_the_dimension():
    x, shift = cloud(50, 5, 1), torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0], dtype=torch.float64)
    value = sliced_wasserstein(x, x + shift, draw(), directions=4000).value
    assert value == pytest.approx(float(shift.square().sum()) / 5, abs=0.2)  # 4 standard errors of the directions


def test_gaussians_of_two_widths_have_the_difference_of_their_deviations_squared():
    x, y = (torch.randn(20_000, 4, generator=draw(seed), dtype=torch.float64) for seed in (1, 2))
    assert sliced_wasserstein(2 * x, y, draw(), directions=20).value == pytest.approx(1.0, abs=0.05)


def test_it_is_a_squared_distance():
    x, y = cloud(40, 3, 1), cloud(30, 3, 2, offset=0.5)
    one = sliced_wasserstein(x, y, draw()).value
    assert sliced_wasserstein(x, x[torch.randperm(40, generator=draw())], draw()).value == 0
    assert sliced_wasserstein(y, x, draw()).value == pytest.approx(one, rel=1e-12)
    assert sliced_wasserstein(3 * x, 3 * y, draw()).value == pytest.approx(9 * one, rel=1e-12)


def test_the_error_is_the_spread_over_fresh_samples():
    y = cloud(300, 4, 99)
    x = [1.3 * torch.randn(200, 4, generator=draw(seed), dtype=torch.float64) + 0.8 for seed in range(100)]
    found = [sliced_wasserstein(each, y, draw(seed), directions=200) for seed, each in enumerate(x)]
    spread = np.std([each.value for each in found], ddof=1)
    assert 0.75 < np.mean([each.error for each in found]) / spread < 1.35


def test_it_sees_what_moments_do_not():
    """Half of the samples too narrow, half too wide: mean and covariance are those of the normal law."""
    n = 4000
    y, other, x = (torch.randn(n, 8, generator=draw(seed), dtype=torch.float64) for seed in (1, 2, 3))
    x *= torch.where(torch.arange(n) % 2 == 0, 0.1**0.5, 1.9**0.5)[:, None]
    fid, equal_fid = (frechet_of_features(each, *moments(y)) for each in (x, other))
    sliced, equal = (sliced_wasserstein(each, y, draw()).value for each in (x, other))
    assert sliced > 10 * equal and sliced / equal > 5 * fid / equal_fid

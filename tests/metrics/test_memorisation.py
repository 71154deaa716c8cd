"""Memorisation: a model that draws from the law is at alpha and 1/2, one that copies at 1, one that is far at 0."""

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu

from lightning_gen.errors import NonFinite
from lightning_gen.metrics import memorised, memorised_distances


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _law(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 4, generator=_draw(seed))


def test_the_share_is_counted_by_its_definition():
    samples = torch.tensor([0.1, 0.2, 0.3, 0.4])
    held_out = torch.tensor([0.15, 0.35, 1.0, 2.0, 3.0])
    found = memorised_distances(samples, held_out, _draw(), alpha=0.25)
    assert found.threshold == pytest.approx(0.35)  # a quarter of the way through five
    assert found.share == 0.75
    # of 20 pairs nearer: 5 + 4 + 4 + 3
    assert found.nearer == pytest.approx(16 / 20)


def test_ties_are_half_nearer():
    same = torch.tensor([1.0, 1.0, 2.0])
    assert memorised_distances(same, same, _draw()).nearer == pytest.approx(0.5)


def test_c_t_is_the_mann_whitney_z():
    x, y = torch.rand(40, generator=_draw(1)), torch.rand(60, generator=_draw(2)) + 0.1
    found = memorised_distances(x, y, _draw())
    expected = mannwhitneyu(x.numpy(), y.numpy(), use_continuity=False, method="asymptotic")
    assert found.nearer == pytest.approx(1 - expected.statistic / (40 * 60))
    assert found.c_t < 0  # samples are nearer
    z = (expected.statistic - 40 * 60 / 2) / (40 * 60 * 101 / 12) ** 0.5
    assert found.c_t == pytest.approx(z)


def test_a_model_of_the_law_is_at_alpha_and_its_error_is_the_spread():
    train = _law(300, 1)
    found = [memorised(_law(250, 2 * i + 10), train, _law(100, 2 * i + 11), _draw(i), 0.1) for i in range(80)]
    shares, nearer = np.array([f.share for f in found]), np.array([f.nearer for f in found])
    # the quantile of 100 is interpolated: 0.1 within a distance of 1/100
    assert abs(shares.mean() - 0.1) <= 4 * shares.std(ddof=1) / 80**0.5 + 1 / 100
    assert abs(nearer.mean() - 0.5) <= 4 * nearer.std(ddof=1) / 80**0.5
    assert abs(np.mean([f.c_t for f in found])) <= 4 / 80**0.5
    claimed = np.mean([f.error**2 for f in found]) ** 0.5
    assert 0.75 <= claimed / shares.std(ddof=1) <= 1.35


def test_copies_and_strangers():
    train, held_out = _law(200, 1), _law(200, 2)
    copies = memorised(train[:100] + 1e-4, train, held_out, _draw())
    assert (copies.share, copies.nearer) == (1.0, 1.0) and copies.c_t < -10
    assert copies.error == pytest.approx((102 / 104 * 2 / 104 / 104) ** 0.5)  # all on one side says not: no doubt
    strangers = memorised(_law(100, 3) + 20, train, held_out, _draw())
    assert (strangers.share, strangers.nearer) == (0.0, 0.0) and strangers.c_t > 10
    assert strangers.error == pytest.approx((2 / 104 * 102 / 104 / 104) ** 0.5)


def test_refusals():
    x = _law(20, 1)
    with pytest.raises(NonFinite, match="features train"):
        memorised(x, x / 0, x, _draw())
    with pytest.raises(ValueError, match="2 images or more in held_out"):
        memorised(x, x, x[:1], _draw())
    with pytest.raises(ValueError, match=r"alpha is 1\.0"):
        memorised(x, x, x, _draw(), alpha=1.0)

"""Precision, recall, density and coverage: counts by their definitions, their expectations, errors that are honest."""

from math import prod

import numpy as np
import pytest
import torch

from lightning_gen.errors import NonFinite
from lightning_gen.metrics import distances, manifold, nearest
from tests.metrics.reference_metrics import cloud


def _by_definition(samples, real, k, k_density):
    """Loops over the definitions of the two papers."""

    def radius(x, i, k):
        return sorted(float((x[i] - x[j]).norm()) for j in range(len(x)) if j != i)[k - 1]

    def inside(a, b, r):
        return float((a - b).norm()) <= r

    def within(a, b, r):  # Naeem et al. leave out the sphere
        return float((a - b).norm()) < r

    narrow = [radius(real, i, k) for i in range(len(real))]
    wide = [radius(real, i, k_density) for i in range(len(real))]
    reach = [radius(samples, j, k) for j in range(len(samples))]
    m, n = range(len(samples)), range(len(real))
    precision = sum(any(inside(samples[j], real[i], narrow[i]) for i in n) for j in m) / len(samples)
    recall = sum(any(inside(samples[j], real[i], reach[j]) for j in m) for i in n) / len(real)
    density = sum(within(samples[j], real[i], wide[i]) for j in m for i in n) / (k_density * len(samples))
    coverage = sum(any(within(samples[j], real[i], wide[i]) for j in m) for i in n) / len(real)
    return precision, recall, density, coverage


@pytest.mark.parametrize(("m", "n", "k", "k_density"), [(30, 40, 3, 5), (40, 25, 1, 2), (9, 12, 5, 3)])
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.4, 0.2), (1.6, 0.5)])
def test_counts_are_those_of_the_definitions(monkeypatch, m, n, k, k_density, scale, offset):
    samples, real = cloud(m, 4, 1, scale, offset), cloud(n, 4, 2)
    expected = _by_definition(samples, real, k, k_density)
    assert manifold(samples, real, k, k_density)[:4] == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr(distances, "ENTRIES", 7 * max(m, n))  # and in blocks that do not divide
    assert manifold(samples, real, k, k_density)[:4] == pytest.approx(expected, abs=1e-12)


def test_copies_lie_in_their_originals_balls_at_a_large_mean():
    """Closed balls of precision and recall, open ones of density and coverage; rounding far from 0 changes neither."""
    real = cloud(60, 8, 1) + 1e3
    found = manifold(real.float(), real.float(), 3, 5)
    assert found[:2] == (1.0, 1.0) and found.coverage == 1.0
    assert found.density == pytest.approx(1)  # each ball holds itself and four of its five neighbours
    # one sample, at exactly the radius of a ball
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    edge = manifold(torch.tensor([[-1.0], [-50.0]]), line, 1, 1)
    assert (edge.precision, edge.density, edge.coverage) == (0.5, 0, 0)
    # and in the plane, where each of 40 samples lies at its ball's radius, far from 0
    corner = torch.tensor([[0.0, 0.0], [3.0, 4.0], [900.0, 0.0], [900.0, 50.0]], dtype=torch.float64)
    turn = torch.arange(40, dtype=torch.float64) / 7
    ring = 5 * torch.stack([turn.cos(), turn.sin()], 1) * (1 - 1e-9)
    assert manifold(ring + 1e6, corner + 1e6, 1, 1).precision == 1


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("n", [12, 200])
def test_a_model_that_copies_the_training_set_has_density_one(k, n):
    """As in Naeem et al.'s code: k of the k + 1 points of a closed ball are in the open one, and every ball is hit."""
    real = cloud(n, 4, 3)
    found = manifold(real.clone(), real, 3, k)
    assert found[:4] == pytest.approx((1, 1, 1, 1), abs=1e-12)
    twice = manifold(real.repeat(2, 1), real, 3, k)  # of a mean over the samples, no matter how often each is copied
    assert twice[:4] == pytest.approx((1, 1, 1, 1), abs=1e-12)
    same = real[:1].repeat(n, 1)  # points that coincide have a ball of radius 0, which is empty when open
    assert manifold(same, same, 3, k)[:4] == (1, 1, 0, 0)


def test_a_far_law_has_none_and_a_collapsed_one_has_precision_alone():
    real = cloud(200, 4, 1)
    far = manifold(cloud(200, 4, 2) + 1e3, real)
    assert far[:4] == (0, 0, 0, 0)
    one = real[:1] + 1e-3 * cloud(200, 4, 3)
    found = manifold(one, real)
    assert found.precision == 1 and found.recall < 0.05 and found.coverage < 0.2 and found.density > 1


@pytest.mark.parametrize(("m", "n"), [(50, 50), (30, 60)])
def test_equal_laws_have_the_papers_expectations(m, n):
    """E density = 1; E coverage = 1 - prod_(i=1..k) (N - i) / (M + N - i), Naeem et al., appendix."""
    k, found = 4, []
    for seed in range(150):
        x, y = (torch.randn(c, 3, generator=torch.Generator().manual_seed(2 * seed + s)) for s, c in ((0, m), (1, n)))
        found.append(manifold(x, y, 2, k)[2:4])
    density, coverage = np.array(found).T
    expected = 1 - prod((n - i) / (m + n - i) for i in range(1, k + 1))
    for values, truth in ((density, 1), (coverage, expected)):
        assert abs(values.mean() - truth) <= 4 * values.std(ddof=1) / len(values) ** 0.5


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.8, 0.5)])
def test_errors_are_the_spread_over_fresh_samples(scale, offset):
    real = torch.randn(300, 4, generator=torch.Generator().manual_seed(99))
    found = [
        manifold(scale * torch.randn(300, 4, generator=torch.Generator().manual_seed(i)) + offset, real)
        for i in range(60)
    ]
    claimed = np.array([f.errors for f in found])
    spread = np.array([f[:4] for f in found]).std(0, ddof=1)
    ratios = (claimed**2).mean(0) ** 0.5 / spread
    # a half covers less, and less surely, than twice as many samples: coverage errs on the large side
    assert ((ratios > 0.8) & (ratios < (1.3, 1.3, 1.3, 2.2))).all(), ratios


def test_nearest_is_nearest():
    x, y = cloud(23, 5, 1), cloud(31, 5, 2)
    squares, index = nearest(x, y, 3)
    expected = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").topk(3, largest=False)
    torch.testing.assert_close(squares.sqrt(), expected.values, rtol=1e-10, atol=1e-12)
    assert torch.equal(index, expected.indices)
    own = nearest(x, x, 1, same=True)[1][:, 0]
    assert (own != torch.arange(23)).all()


def test_refusals():
    x = cloud(20, 4, 1)
    with pytest.raises(NonFinite, match="features samples"):
        manifold(x * float("nan"), x)
    with pytest.raises(ValueError, match="6 images or more in real, got 5"):
        manifold(x, x[:5])
    with pytest.raises(ValueError, match="k is 0"):
        manifold(x, x, k=0)

"""The quick way to the Frechet distance agrees with the careful one, is taken where it may be, and is small."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_gen.errors import NonFinite
from lightning_gen.metrics import frechet, frechet_distance, frechet_of_features, moments
from tests.metrics.reference_metrics import cloud


def _careful(mean_a, cov_a, mean_b, cov_b) -> float:
    """By singular values of the two symmetric roots' product, and squares."""
    return frechet._by_squares(
        float((mean_a - mean_b).square().sum()), frechet._factor(cov_a, "a"), frechet._factor(cov_b, "b")
    )


def _decaying(n: int, d: int, power: float, seed: int, scale: float = 1.0) -> torch.Tensor:
    """n samples whose covariance has eigenvalues scale^2 k^-power, as features of networks have."""
    draw = torch.Generator().manual_seed(seed)
    roots = torch.arange(1, d + 1, dtype=torch.float64) ** (-power / 2)
    q = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    return scale * (torch.randn(n, d, generator=draw, dtype=torch.float64) * roots) @ q


@pytest.mark.parametrize("power", [0, 0.5, 1, 1.5])
@pytest.mark.parametrize(("n", "m"), [(400, 300), (60, 300), (2, 300)])
def test_eigenvalues_find_what_squares_find_at_any_spectrum(monkeypatch, power, n, m):
    x, y = _decaying(n, 96, power, 2), _decaying(m, 96, power, 3, scale=1.05)
    exact = _careful(*moments(x), *moments(y))
    monkeypatch.setattr(frechet, "_by_squares", lambda *_: pytest.fail("the slow way was taken"))
    assert frechet_of_features(x, *moments(y)) == pytest.approx(exact, rel=1e-8)


def test_blocks_are_the_whole(monkeypatch):
    """Sums and products by blocks that do not divide, of many images and of few."""
    x, few, y = cloud(90, 23, 1), cloud(17, 23, 3), moments(cloud(80, 23, 2, scale=1.3))
    whole = [frechet_of_features(x, *y), frechet_of_features(few, *y)]
    monkeypatch.setattr(frechet, "BLOCK", 7)
    monkeypatch.setattr(frechet, "_by_squares", lambda *_: pytest.fail("the slow way was taken"))
    torch.testing.assert_close(moments(x)[1], torch.cov(x.T), rtol=1e-12, atol=1e-13)
    assert [frechet_of_features(x, *y), frechet_of_features(few, *y)] == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("n", [2, 3, 31, 32, 33, 80])
@pytest.mark.parametrize("m", [20, 90])
def test_rows_find_what_covariances_find(n, m):
    """Fewer samples than dimensions, on either side."""
    x, y = cloud(n, 32, 1), cloud(m, 32, 2, scale=1.4, offset=0.3)
    assert frechet_of_features(x, *moments(y)) == pytest.approx(frechet_distance(*moments(x), *moments(y)), rel=1e-9)
    assert 0 <= frechet_of_features(y, *moments(y)) < 1e-11


def test_two_lines_have_the_closed_form():
    """Rank one against the identity in three dimensions: |m|^2 + (s - 1)^2 + 2."""
    x = torch.tensor([[3.0, 0, 0], [5, 0, 0]], dtype=torch.float64)  # mean 4, variance 2
    found = frechet_of_features(x, torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))
    assert found == pytest.approx(16 + (2**0.5 - 1) ** 2 + 2, rel=1e-12)
    line = x.new_tensor([[2**0.5], [0], [0]])
    for pair in ((line, torch.eye(3).double()), (torch.eye(3).double(), line)):
        assert frechet._by_squares(16.0, *pair) == pytest.approx(16 + (2**0.5 - 1) ** 2 + 2, rel=1e-12)


def test_a_distance_that_rounding_could_reach_is_a_sum_of_squares(monkeypatch):
    taken, squares = [], frechet._by_squares
    monkeypatch.setattr(frechet, "_by_squares", lambda *a: taken.append(1) or squares(*a))
    mean, cov = moments(cloud(300, 16, 1))
    assert frechet_distance(mean, cov, mean, cov * (1 + 1e-7)) == pytest.approx(
        float(cov.trace()) * 2.5e-15, rel=1e-4, abs=0
    )
    assert taken
    frechet_distance(mean, cov, mean, 2 * cov)
    assert len(taken) == 1


def test_features_that_cannot_be_measured_are_refused():
    mean, cov = moments(cloud(40, 8, 1))
    bad = cloud(5, 8, 2)
    bad[1, 1] = float("nan")
    with pytest.raises(NonFinite, match="features"):
        frechet_of_features(bad, mean, cov)
    with pytest.raises(ValueError, match="2 samples"):
        frechet_of_features(bad[:1], mean, cov)


MEMORY = """
import resource, torch
from lightning_gen.metrics import FrechetStatistics, moments
torch.set_num_threads(1)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
d, n = 256, 40_000
moments(torch.randn(2000, d))
before = peak()
statistics = FrechetStatistics(d)
for _ in range(n // 1000):
    statistics.update(torch.randn(1000, d))
statistics.compute()
print(peak() - before)
held = torch.randn(n, d)
before = peak()
moments(held)
print(peak() - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images():
    """40,000 x 256 features are 41 MB in float32 and 82 MB in float64; the sums take half a MB."""
    command = [sys.executable, "-c", MEMORY]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert max(map(int, done.stdout.split())) < 35_000  # KiB

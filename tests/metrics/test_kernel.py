"""The kernel distance: unbiased, equal to torch-fidelity's and torchmetrics', its error honest."""

import numpy as np
import pytest
import torch

from lightning_gen.errors import NonFinite
from lightning_gen.metrics import kernel_distance, kernel_distance_all, mmd2, polynomial_kernel
from tests.metrics.reference_metrics import AsTheyAre, cloud


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_equals_torch_fidelity():
    from torch_fidelity.metric_kid import kid_features_to_metric

    # With one subset of everything, the order in which either draws does not matter.
    x, y = cloud(150, 12, 1), cloud(150, 12, 2, scale=1.2, offset=0.3)
    theirs = kid_features_to_metric(x, y, kid_subsets=1, kid_subset_size=150, verbose=False)
    ours = kernel_distance(x, y, _draw(), subsets=1, size=150)
    assert ours.value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-10)
    # Random subsets: two draws of one estimate, within the spread of its mean over 400 subsets.
    theirs = kid_features_to_metric(x, y, kid_subsets=400, kid_subset_size=50, verbose=False)
    ours = kernel_distance(x, y, _draw(), subsets=400, size=50)
    spread = theirs["kernel_inception_distance_std"]
    assert abs(ours.value - theirs["kernel_inception_distance_mean"]) < 4 * spread * (2 / 400) ** 0.5
    assert ours.std == pytest.approx(spread, rel=0.2)


def test_equals_torchmetrics():
    from torchmetrics.image.kid import KernelInceptionDistance

    x, y = cloud(120, 8, 1), cloud(120, 8, 2, scale=1.2)
    theirs = KernelInceptionDistance(feature=AsTheyAre(8), subsets=1, subset_size=120).set_dtype(torch.float64)
    theirs.update(y, real=True)
    theirs.update(x, real=False)
    assert kernel_distance(x, y, _draw()).value == pytest.approx(float(theirs.compute()[0]), rel=1e-10)


def _z(values: list[float]) -> float:
    return float(np.mean(values) / (np.std(values, ddof=1) / len(values) ** 0.5))


def test_equal_laws_are_at_zero_and_a_diagonal_would_show():
    mix = torch.randn(6, 6, generator=_draw(9), dtype=torch.float64) / 6**0.5
    pairs = [
        (
            torch.randn(40, 6, generator=_draw(1000 + i), dtype=torch.float64) @ mix,
            torch.randn(60, 6, generator=_draw(5000 + i), dtype=torch.float64) @ mix,
        )
        for i in range(200)
    ]
    assert abs(_z([float(mmd2(x, y)) for x, y in pairs])) <= 4

    def with_diagonal(x, y):
        kernels = [polynomial_kernel(a, b).mean() for a, b in ((x, x), (y, y), (x, y))]
        return float(kernels[0] + kernels[1] - 2 * kernels[2])

    assert _z([with_diagonal(x, y) for x, y in pairs]) > 4
    # and subsets do not bring a bias back
    values = [kernel_distance(x, y, _draw(i), subsets=5, size=20) for i, (x, y) in enumerate(pairs)]
    assert abs(_z([v.value for v in values])) <= 4
    assert min(v.value for v in values) < 0  # unbiased: it must be able to be negative


@pytest.mark.parametrize(("offset", "ratio"), [(0.0, (0.9, 3.0)), (1.0, (0.75, 1.35))])
def test_the_standard_error_is_the_spread_over_fresh_samples(offset, ratio):
    found = [
        kernel_distance(
            torch.randn(120, 4, generator=_draw(i), dtype=torch.float64) + offset,
            torch.randn(200, 4, generator=_draw(9000 + i), dtype=torch.float64),
            _draw(i),
            subsets=20,
            size=80,
        )
        for i in range(150)
    ]
    claimed = np.mean([f.error**2 for f in found]) ** 0.5
    assert ratio[0] <= claimed / np.std([f.value for f in found], ddof=1) <= ratio[1]


def test_one_generator_one_number_and_the_global_one_stays():
    x, y = cloud(60, 4, 1), cloud(80, 4, 2)
    before = torch.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()
    first, second = (kernel_distance(x, y, _draw(3), 7, 30) for _ in range(2))
    assert first == second
    assert kernel_distance(x, y, _draw(4), 7, 30).value != first.value
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()


def test_a_small_set_says_what_was_used():
    found = kernel_distance(cloud(60, 4, 1), cloud(80, 4, 2), _draw())
    assert (found.size, found.subsets) == (60, 100)
    whole = kernel_distance(cloud(60, 4, 1), cloud(60, 4, 2), _draw())
    assert (whole.size, whole.subsets, whole.std) == (60, 1, 0.0)
    assert whole.error > 0


def test_refusals():
    x = cloud(20, 4, 1)
    with pytest.raises(NonFinite):
        kernel_distance(x, x * float("nan"), _draw())
    with pytest.raises(ValueError, match="3 .* in x, got 2"):
        kernel_distance(x[:2], x, _draw())
    with pytest.raises(ValueError, match="subsets is 0"):
        kernel_distance(x, x, _draw(), subsets=0)


def test_all_pairs_are_mmd2_of_everything_in_blocks(monkeypatch):
    x, y = cloud(50, 5, 1), cloud(70, 5, 2, scale=1.2)
    whole = float(mmd2(x, y))
    monkeypatch.setattr("lightning_gen.metrics.kernel.ENTRIES", 70 * 9)
    kxx, kyy, kxy = polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y)
    by_hand = sum(kxx[i, j] for i in range(50) for j in range(50) if i != j) / (50 * 49)
    by_hand += sum(kyy[i, j] for i in range(70) for j in range(70) if i != j) / (70 * 69) - 2 * kxy.mean()
    found = kernel_distance_all(x, y)
    assert found.value == pytest.approx(float(by_hand), rel=1e-9) == pytest.approx(whole, rel=1e-9)
    assert kernel_distance_all(x, x[:40]).size == 50


def test_the_error_over_all_pairs_is_the_spread_over_fresh_samples():
    found = [
        kernel_distance_all(
            torch.randn(100, 4, generator=_draw(i), dtype=torch.float64) + 0.7,
            torch.randn(120, 4, generator=_draw(9000 + i), dtype=torch.float64),
        )
        for i in range(120)
    ]
    claimed = np.mean([f.error**2 for f in found]) ** 0.5
    assert 0.8 <= claimed / np.std([f.value for f in found], ddof=1) <= 1.25

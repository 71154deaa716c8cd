"""The kernel density: its formula, its integral, and that its bandwidth is the one that held-out samples choose."""

import math

import numpy as np
import pytest

from lightning_gen.likelihood import kernel_density


def samples(n=60, d=5, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)) * np.linspace(0.5, 2, d)


def by_hand(centres, points, s):
    squares = ((points[:, None] - centres[None]) ** 2).sum(2) / (2 * s**2)
    n, d = centres.shape
    return np.log(np.exp(-squares).sum(1)) - math.log(n) - d * math.log(s) - d / 2 * math.log(2 * math.pi)


def test_it_is_the_formula():
    centres, points = samples(), samples(30, seed=1)
    result = kernel_density(centres, points)
    assert result.nats == pytest.approx(by_hand(centres, points, result.bandwidth), rel=1e-9)


def test_it_integrates_to_one_in_five_dimensions():
    centres = samples()
    scale = 1.5 * centres.std(0).max()
    points = scale * np.random.default_rng(2).standard_normal((40_000, 5))
    proposal = -0.5 * (points**2).sum(1) / scale**2 - 5 * math.log(scale * math.sqrt(2 * math.pi))
    ratio = np.exp(kernel_density(centres, points).nats - proposal)
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / 200 < 0.1


def test_held_out_samples_choose_the_bandwidth():
    from sklearn.model_selection import KFold

    centres = samples(80, 2)
    result = kernel_density(centres, centres, folds=4, seed=3)

    def held_out(s):
        cuts = KFold(4, shuffle=True, random_state=3).split(centres)
        return np.mean([by_hand(centres[kept], centres[left], s).sum() for kept, left in cuts])

    neighbours = [result.bandwidth * 10 ** (k / 5) for k in (-3, -1, 0, 1, 3)]
    assert max(neighbours, key=held_out) == result.bandwidth
    assert result.bandwidth < centres.std(0).mean()


def test_the_bandwidth_follows_the_scale_of_the_samples():
    centres, points = samples(), samples(10, seed=1)
    small, large = kernel_density(centres, points), kernel_density(1000 * centres, 1000 * points)
    assert large.bandwidth == pytest.approx(1000 * small.bandwidth)
    assert large.nats == pytest.approx(small.nats - 5 * math.log(1000))


def test_the_search_goes_on_where_the_best_lies_at_an_end():
    """Samples on a fine grid far apart: the best bandwidth is much below their spread."""
    points = np.repeat([0.0, 1000.0], 30)[:, None] + 0.1 * samples(60, 1)
    result = kernel_density(points, points)
    assert result.bandwidth < 1 and result.tried > 11


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: kernel_density(np.ones((10, 2)), np.ones((1, 2))), "10 samples"),
        (lambda: kernel_density(np.repeat(samples(10), 9, 0), samples(2)), "coincide"),
        (lambda: kernel_density(samples(4), samples(2)), "folds.*5.*4"),
        (lambda: kernel_density(samples(9), samples(2, 4)), "samples.*points"),
        (lambda: kernel_density(samples(9) * np.nan, samples(2)), "finite"),
    ],
)
def test_what_has_no_density_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()

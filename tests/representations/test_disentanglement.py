"""Perfect, dead, random and rotated codes, and the published definitions by hand on tables of four rows."""

import itertools
import math

import numpy as np
import pytest

from lightning_gen.representations import beta_vae, dci, factor_vae, mig, modularity, sap
from lightning_gen.representations.disentanglement import concentration, draw_factors, entropy, gap, mutual_information

SIZES = (3, 4, 4)
GRID = np.array(list(itertools.product(*map(range, SIZES))))
FEW = {"train": 300, "evaluate": 200}
TWO = np.array(list(itertools.product((0, 1), (0, 1))))


def random(seed=0):
    return np.random.default_rng(seed)


def ideal(factors):
    return factors * [1.0, -2.0, 0.5]


def noise(factors):
    """Codes that know nothing: another draw each time."""
    return random(len(factors)).standard_normal((len(factors), 3))


def rotated(factors):
    """45 degrees in the plane of the two factors of four values."""
    a, b = factors[:, 1] - 1.5, factors[:, 2] - 1.5
    return np.stack([a + b, a - b], 1)


def test_ideal_codes_have_all_measures_at_one():
    assert beta_vae(ideal, SIZES, random(), **FEW) == 1
    assert factor_vae(ideal, SIZES, random(), **FEW) == (1, 3)
    assert mig(ideal(GRID), GRID) == pytest.approx(1)
    assert modularity(ideal(GRID), GRID) == pytest.approx(1)
    result = dci(ideal(GRID), GRID, ideal(GRID), GRID)
    assert result == pytest.approx((1, 1, 1), abs=1e-6)


def test_random_codes_are_at_chance():
    share = beta_vae(noise, SIZES, random(), **FEW)
    assert abs(share - 1 / 3) < 4.5 * math.sqrt(2 / 9 / 200)
    share, active = factor_vae(noise, SIZES, random(), **FEW)
    assert active == 3 and abs(share - 1 / 3) < 0.2
    factors = draw_factors(SIZES, 3000, random(1))
    codes = noise(factors)
    assert mig(codes, factors) < 0.01
    assert dci(codes[:600], factors[:600], codes[600:1200], factors[600:1200]).informativeness < 0.45


def test_rotated_codes_cannot_be_distinguished():
    """Of the pair of factors that are mixed, each moves both codes alike."""
    pair = lambda factors: rotated(np.insert(factors, 0, 0, 1))  # noqa: E731
    assert abs(beta_vae(pair, (4, 4), random(), **FEW) - 0.5) < 0.15
    assert abs(factor_vae(pair, (4, 4), random(), **FEW)[0] - 0.5) < 0.15
    grid = GRID[:16, 1:]
    assert mig(pair(grid), grid) == pytest.approx(0, abs=1e-9)
    assert modularity(pair(grid), grid) == pytest.approx(0, abs=1e-9)
    result = dci(pair(grid), grid, pair(grid), grid)
    assert result.disentanglement < 0.15 and result.completeness < 0.15


def test_beta_vae_holds_a_factor_fixed_in_pairs_and_factor_vae_in_a_batch():
    """The factors that codes are asked for: between two halves of a batch one column agrees, or one is constant."""
    asked = []

    def watched(factors):
        asked.append(factors.copy())
        return ideal(factors)

    beta_vae(watched, (50, 60, 70), random(), batch=8, train=40, evaluate=10)
    for first, second in zip(asked[::2], asked[1::2], strict=True):
        same = (first == second).reshape(-1, 8, 3).all(1)
        assert (same.sum(1) == 1).all() and (first.reshape(-1, 8, 3).std(1) > 0).all()
    asked.clear()
    factor_vae(watched, (50, 60, 70), random(), batch=8, train=40, evaluate=10)
    for batch in asked[1:]:
        assert ((batch.reshape(-1, 8, 3).std(1) == 0).sum(1) == 1).all()
    assert len(asked[0]) == 40 and asked[0].std(0).min() > 0


def test_factor_vae_leaves_out_dead_codes_and_counts_the_others():
    """disentanglement_lib reports the length of its mask instead: here 4."""
    with_dead = lambda factors: np.insert(ideal(factors), 1, 1e-3 * factors[:, 0], 1)  # noqa: E731
    assert factor_vae(with_dead, SIZES, random(), **FEW) == (1, 3)
    assert factor_vae(lambda factors: 0.01 * ideal(factors), SIZES, random(), **FEW) == (0, 0)


def test_factor_vae_is_relative_to_each_codes_own_variance():
    """By absolute variance the small code would always be the least, as no code is without noise."""
    shaken = lambda factors: (ideal(factors) + 0.2 * noise(factors)) * [0.1, 10, 1]  # noqa: E731
    assert factor_vae(shaken, SIZES, random(), **FEW)[0] > 0.95


def test_mutual_information_and_gap_by_hand():
    """Codes A and A and B of two independent bits: I(A; A and B) = h(1/4) - log(2) / 2."""
    codes = np.stack([TWO[:, 0], TWO[:, 0] & TWO[:, 1]], 1).astype(float)
    shared = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) - 0.5 * math.log(2)
    expected = [[math.log(2), 0], [shared, shared]]
    assert mutual_information(codes, TWO) == pytest.approx(np.array(expected))
    assert entropy(TWO) == pytest.approx([math.log(2)] * 2)
    assert gap(np.array(expected)) == pytest.approx([math.log(2) - shared, shared])
    assert mig(codes, TWO) == pytest.approx(0.5)
    assert modularity(codes, TWO) == pytest.approx((1 + 0) / 2)
    dead = np.insert(codes, 2, 7.0, 1)
    assert modularity(dead, TWO) == pytest.approx(1 / 3)
    partial = np.array([[3.0, 1.0, 0.0]])
    assert gap(partial) == pytest.approx([3, 1, 0])


def test_modularity_of_a_code_that_knows_two_of_three_factors():
    grid = np.array(list(itertools.product((0, 1), repeat=3)))
    code = (2 * grid[:, :1] + grid[:, 1:2]).astype(float)  # I = (log 2, log 2, 0)
    assert modularity(code, grid) == pytest.approx(1 - 1 / 2)


def test_a_code_is_cut_into_even_bins_over_its_range():
    code, factor = np.linspace(0, 1, 1000)[:, None], np.arange(1000)[:, None] // 500
    assert mutual_information(code, factor, 20)[0, 0] == pytest.approx(math.log(2))
    assert mutual_information(code, factor, 3)[0, 0] == pytest.approx(2 / 3 * math.log(2), rel=1e-2)
    assert mutual_information(code, np.arange(1000)[:, None], 20)[0, 0] == pytest.approx(math.log(20))


def test_sap_by_hand():
    """Two independent bits as codes: each 1 for its factor and 1/2 for the other."""
    factors = np.tile(TWO, (50, 1))
    assert sap(factors.astype(float), factors, factors.astype(float), factors) == pytest.approx(0.5)
    both = np.stack([factors[:, 0], factors[:, 0]], 1).astype(float)
    assert sap(both, factors, both, factors) == pytest.approx(0)


@pytest.mark.parametrize(
    ("importance", "expected"),
    [
        ([[1, 0], [0, 1]], 1),
        ([[1, 1], [2, 2]], 0),
        ([[3, 1], [0, 0]], 1 + 0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)),
        ([[6, 0], [1, 1]], 6 / 8),
        ([[0, 0], [0, 0]], 0),
        ([[1, 1, 0]], 1 - math.log(2) / math.log(3)),
    ],
)
def test_concentration_by_hand(importance, expected):
    assert concentration(np.array(importance, dtype=float)) == pytest.approx(expected)


def test_dci_tells_disentanglement_from_completeness():
    """Two codes share one factor and none mixes: disentangled, not complete."""
    factors = np.tile(GRID[:16, 1:], (20, 1))
    codes = np.stack([factors[:, 0] // 2, factors[:, 0] % 2, factors[:, 1]], 1).astype(float)
    result = dci(codes, factors, codes, factors)
    assert result.disentanglement == pytest.approx(1, abs=1e-6) and 0.3 < result.completeness < 0.9
    assert result.informativeness == 1


def test_draws_are_even_and_reach_every_value():
    factors = draw_factors(SIZES, 12_000, random())
    for column, size in zip(factors.T, SIZES, strict=True):
        counts = np.bincount(column)
        assert len(counts) == size and (abs(counts - 12_000 / size) < 5 * math.sqrt(12_000 / size)).all()

"""Clusters and probes against scikit-learn's own counts and against what is known of made-up codes."""

import math

import numpy as np
import pytest

from lightning_gen.representations import clustering, linear_probe


def blobs(n=300, spread=0.05, classes=3):
    random = np.random.default_rng(0)
    labels = np.arange(n) % classes
    return np.eye(classes)[labels] + spread * random.standard_normal((n, classes)), labels


def test_separate_classes_are_clusters():
    assert clustering(*blobs(), 3) == pytest.approx((1, 1, 1))


def test_the_measure_is_that_of_entropies():
    """Homogeneity 1 - H(class|cluster) / H(class), completeness the other way round, V their harmonic mean."""
    x, labels = blobs(400, classes=4)
    merged = labels // 2  # two classes where k-means finds four clusters
    homogeneity, completeness, v = clustering(x, merged, 4)
    assert homogeneity == pytest.approx(1)
    assert completeness == pytest.approx(1 - math.log(2) / math.log(4))
    assert v == pytest.approx(2 * completeness / (1 + completeness))
    homogeneity, completeness, _ = clustering(x[:, :2] * 0 + merged[:, None], labels, 2)
    assert homogeneity == pytest.approx(1 - math.log(2) / math.log(4)) and completeness == pytest.approx(1)


def test_it_depends_on_its_seed_alone():
    x, labels = np.random.default_rng(1).standard_normal((200, 5)), np.arange(200) % 4
    np.random.seed(3)
    first = clustering(x, labels, 4, seed=2)
    state = np.random.get_state()[1].copy()
    assert clustering(x, labels, 4, seed=2) == first and first.v_measure < 0.1
    assert np.array_equal(np.random.get_state()[1], state)


def test_a_probe_is_evaluated_on_held_out_rows():
    x, labels = blobs(600, 0.05)
    ideal = linear_probe(x[:300], labels[:300], x[300:], labels[300:])
    assert ideal == (1.0, 0.0, True)
    noise = np.random.default_rng(2).standard_normal((600, 40))
    chance = linear_probe(noise[:100], labels[:100], noise[100:], labels[100:])
    assert chance.error == pytest.approx(math.sqrt(chance.accuracy * (1 - chance.accuracy) / 500))
    assert abs(chance.accuracy - 1 / 3) < 5 * chance.error


def test_a_probe_does_not_depend_on_the_scale_of_a_code():
    x, labels = blobs(400, 0.8)
    plain = linear_probe(x[:200], labels[:200], x[200:], labels[200:])
    scaled = linear_probe(x[:200] * [1e4, 1, 1e-4], labels[:200], x[200:] * [1e4, 1, 1e-4], labels[200:])
    assert plain.accuracy == pytest.approx(scaled.accuracy, abs=0.011) and 0.4 < plain.accuracy < 1


def test_a_fit_that_has_not_converged_says_so():
    x, labels = blobs(200, 0.5)
    assert not linear_probe(x, labels, x, labels, iterations=1).converged


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: clustering(np.zeros((3, 2)), np.arange(3), 4), "k.*4"),
        (lambda: linear_probe(np.zeros((3, 2)), np.zeros(3), np.zeros((3, 2)), np.zeros(3)), "classes"),
    ],
)
def test_what_cannot_be_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()

"""How well codes determine classes: by unsupervised clusters, and by a linear classifier."""

import warnings
from typing import NamedTuple

import numpy as np


class Clusters(NamedTuple):
    """Homogeneity (one class per cluster), completeness (one cluster per class), their harmonic mean V; in [0, 1]."""

    homogeneity: float
    completeness: float
    v_measure: float


class Probe(NamedTuple):
    """Accuracy in [0, 1], its binomial standard error, and whether the fit converged."""

    accuracy: float
    error: float
    converged: bool


def clustering(x: np.ndarray, labels: np.ndarray, k: int, seed: int = 0, starts: int = 10) -> Clusters:
    """V-measure of k-means clusters, at beta = 1; ValueError unless 1 < k <= n.

    V-measure (Rosenberg & Hirschberg, 2007), https://aclanthology.org/D07-1043

    Args:
        x: codes, (n, d).
        labels: classes, (n,).
        k: number of clusters.
        seed: of the initialisation.
        starts: number of k-means++ initialisations, of which the best counts.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import homogeneity_completeness_v_measure

    if not 1 < k <= len(x) or len(labels) != len(x):
        raise ValueError(
            f"clustering got k {k} for {len(x)} rows and {len(labels)} labels, expected 1 < k <= rows and a label per "
            "row: change k or the labels"
        )
    clusters = KMeans(k, n_init=starts, random_state=seed).fit(np.asarray(x, dtype=np.float64)).labels_
    return Clusters(*map(float, homogeneity_completeness_v_measure(labels, clusters)))


def linear_probe(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, iterations: int = 1000
) -> Probe:
    """Test accuracy of multinomial logistic regression on standardised codes; ValueError for one class.

    Understanding intermediate layers using linear classifier probes (Alain & Bengio, 2017),
    https://arxiv.org/abs/1610.01644

    Args:
        train: codes for the fit, (n, d).
        train_labels: their classes, (n,).
        test: held-out codes, (m, d).
        test_labels: their classes, (m,).
        iterations: largest number of iterations of the fit.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(train_labels)) < 2:
        raise ValueError("linear_probe got training rows of one class, expected at least two classes: use more rows")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=iterations))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(np.asarray(train, dtype=np.float64), train_labels)
    accuracy = float(model.score(np.asarray(test, dtype=np.float64), test_labels))
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    return Probe(accuracy, (accuracy * (1 - accuracy) / len(test)) ** 0.5, converged)

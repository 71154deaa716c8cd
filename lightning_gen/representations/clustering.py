"""What a representation knows of classes: by clusters that never saw a label, and by a linear classifier that did."""

import warnings
from typing import NamedTuple

import numpy as np


class Clusters(NamedTuple):
    """Each in [0, 1]: clusters hold one class (homogeneity), classes lie in one cluster (completeness), both (V)."""

    homogeneity: float
    completeness: float
    v_measure: float


class Probe(NamedTuple):
    """Share of right answers in [0, 1], its binomial standard error, and whether the fit converged."""

    accuracy: float
    error: float
    converged: bool


def clustering(x: np.ndarray, labels: np.ndarray, k: int, seed: int = 0, starts: int = 10) -> Clusters:
    """k-means of x (n, d) into k clusters, the best of `starts` k-means++ starts, held against labels (n,).

    V-measure (Rosenberg & Hirschberg, 2007), https://aclanthology.org/D07-1043, at beta = 1
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import homogeneity_completeness_v_measure

    if not 1 < k <= len(x) or len(labels) != len(x):
        raise ValueError(f"k-means needs 1 < k <= n and a label for each row, got k {k}, n {len(x)}, {len(labels)}")
    found = KMeans(k, n_init=starts, random_state=seed).fit(np.asarray(x, dtype=np.float64)).labels_
    return Clusters(*map(float, homogeneity_completeness_v_measure(labels, found)))


def linear_probe(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, iterations: int = 1000
) -> Probe:
    """Multinomial logistic regression on standardised rows (n, d), accuracy on (m, d) that it has not seen.

    Understanding intermediate layers using linear classifier probes (Alain & Bengio, 2017),
    https://arxiv.org/abs/1610.01644
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(train_labels)) < 2:
        raise ValueError("a linear probe needs two classes or more in its training rows, got one: use more rows")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=iterations))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(np.asarray(train, dtype=np.float64), train_labels)
    accuracy = float(model.score(np.asarray(test, dtype=np.float64), test_labels))
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in said)
    return Probe(accuracy, (accuracy * (1 - accuracy) / len(test)) ** 0.5, converged)

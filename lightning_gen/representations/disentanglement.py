"""Whether each code answers for one factor of variation: six measures, for data whose factors are known.

The constants are those of Challenging common assumptions in the unsupervised learning of disentangled representations
(Locatello et al., 2019), https://arxiv.org/abs/1811.12359, whose code is disentanglement_lib. Factors are whole numbers
from 0 on, drawn independently and evenly; `codes` gives the representations (n, L) of factors (n, F).
"""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Codes = Callable[[np.ndarray], np.ndarray]

BATCH, TRAIN, EVALUATE = 64, 10_000, 5_000
BINS = 20  # of a code, where mutual information needs it discrete
ACTIVE = 0.05  # standard deviation below which FactorVAE's measure takes a code for dead
TOGETHER = 200  # batches that are encoded at once


class DCI(NamedTuple):
    """Disentanglement and completeness in [0, 1] of trees' importances, and informativeness: their test accuracy."""

    disentanglement: float
    completeness: float
    informativeness: float


def draw(sizes: Sequence[int], n: int, random: np.random.Generator) -> np.ndarray:
    """n combinations of factors, (n, F), each from 0 to its size - 1."""
    return random.integers(0, np.asarray(sizes), (n, len(sizes)))


def beta_vae(
    codes: Codes,
    sizes: Sequence[int],
    random: np.random.Generator,
    batch: int = BATCH,
    train: int = TRAIN,
    evaluate: int = EVALUATE,
) -> float:
    """Accuracy in [0, 1] of a linear classifier that tells from mean |z - z'| over pairs which factor they share.

    beta-VAE (Higgins et al., 2017), https://openreview.net/forum?id=Sy2fzU9gl, appendix A.4
    """
    from sklearn.linear_model import LogisticRegression

    def points(n: int) -> tuple[np.ndarray, np.ndarray]:
        fixed, rows = random.integers(0, len(sizes), n), []
        for start in range(0, n, TOGETHER):
            which = fixed[start : start + TOGETHER]
            pairs = [draw(sizes, len(which) * batch, random) for _ in range(2)]
            place = (np.arange(len(which) * batch), which.repeat(batch))
            pairs[1][place] = pairs[0][place]
            distance = np.abs(codes(pairs[0]) - codes(pairs[1]))
            rows.append(distance.reshape(len(which), batch, -1).mean(1))
        return np.concatenate(rows), fixed

    features, shared = points(train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: what counts is the accuracy
        model = LogisticRegression(max_iter=1000).fit(features, shared)
    return float(model.score(*points(evaluate)))


def factor_vae(
    codes: Codes,
    sizes: Sequence[int],
    random: np.random.Generator,
    batch: int = BATCH,
    train: int = TRAIN,
    evaluate: int = EVALUATE,
) -> tuple[float, int]:
    """Accuracy in [0, 1] of the majority vote from the code of least relative variance to the factor held fixed, and
    how many codes are active; 0 where none is.

    FactorVAE (Kim & Mnih, 2018), https://arxiv.org/abs/1802.05983, section 4
    """
    variance = codes(draw(sizes, train, random)).var(0, ddof=1)
    active = np.flatnonzero(np.sqrt(variance) >= ACTIVE)
    if not len(active):
        return 0.0, 0

    def votes(n: int) -> np.ndarray:
        fixed, table = random.integers(0, len(sizes), n), np.zeros((len(active), len(sizes)))
        for start in range(0, n, TOGETHER):
            which = fixed[start : start + TOGETHER]
            factors = draw(sizes, len(which) * batch, random).reshape(len(which), batch, -1)
            rows = np.arange(len(which))
            factors[rows, :, which] = factors[rows, :1, which]
            found = codes(factors.reshape(-1, len(sizes)))[:, active].reshape(len(which), batch, -1)
            least = (found.var(1, ddof=1) / variance[active]).argmin(1)
            np.add.at(table, (least, which), 1)
        return table

    choice, table = votes(train).argmax(1), votes(evaluate)
    return float(table[np.arange(len(active)), choice].sum() / evaluate), len(active)


def mutual_information(codes: np.ndarray, factors: np.ndarray, bins: int = BINS) -> np.ndarray:
    """I(code; factor) of the values that occurred, nats, (L, F), each code in `bins` even bins over its range."""
    from sklearn.metrics import mutual_info_score

    edges = [np.histogram_bin_edges(code, bins)[1:-1] for code in codes.T]
    binned = [np.digitize(code, edge) for code, edge in zip(codes.T, edges, strict=True)]
    return np.array([[mutual_info_score(factor, code) for factor in factors.T] for code in binned])


def entropy(factors: np.ndarray) -> np.ndarray:
    """H of each factor's values that occurred, nats, (F,)."""
    shares = [np.unique(factor, return_counts=True)[1] / len(factor) for factor in factors.T]
    return np.array([-(p * np.log(p)).sum() for p in shares])


def gap(table: np.ndarray) -> np.ndarray:
    """Largest less second largest of each column; of one row, the largest less nothing."""
    ordered = np.sort(table, axis=0)
    return ordered[-1] - (ordered[-2] if len(ordered) > 1 else 0)


def mig(codes: np.ndarray, factors: np.ndarray, bins: int = BINS) -> float:
    """Mutual information gap in [0, 1]: mean over factors of (I of the best code - I of the second) / H(factor).

    Isolating sources of disentanglement (Chen et al., 2018), https://arxiv.org/abs/1802.04942, eq. 6
    """
    return float((gap(mutual_information(codes, factors, bins)) / entropy(factors)).mean())


def modularity(codes: np.ndarray, factors: np.ndarray, bins: int = BINS) -> float:
    """Mean over codes of 1 - sum of squared I to the factors but the best / (squared I of the best (F - 1)), in [0, 1].

    A code that knows nothing counts 0. Learning deep disentangled embeddings with the F-statistic loss (Ridgeway &
    Mozer, 2018), https://arxiv.org/abs/1802.05312, section 3
    """
    squares = mutual_information(codes, factors, bins) ** 2
    best = squares.max(1)
    known = best > 0
    rest = (squares.sum(1) - best)[known] / (best[known] * (factors.shape[1] - 1))
    return float((1 - rest).sum() / len(best))


def sap(codes: np.ndarray, factors: np.ndarray, test_codes: np.ndarray, test_factors: np.ndarray) -> float:
    """Separated attribute predictability in [0, 1]: mean gap of the two codes that tell a factor best by themselves.

    By a linear support vector machine's test accuracy, all factors taken as discrete. Variational inference of
    disentangled latent concepts (Kumar et al., 2018), https://arxiv.org/abs/1711.00848, section 3
    """
    from sklearn.svm import LinearSVC

    table = np.zeros((codes.shape[1], factors.shape[1]))
    for i in range(codes.shape[1]):
        for j in range(factors.shape[1]):
            model = LinearSVC(C=0.01, class_weight="balanced", random_state=0).fit(codes[:, [i]], factors[:, j])
            table[i, j] = model.score(test_codes[:, [i]], test_factors[:, j])
    return float(gap(table).mean())


def dci(codes: np.ndarray, factors: np.ndarray, test_codes: np.ndarray, test_factors: np.ndarray) -> DCI:
    """How gradient-boosted trees that predict each factor share out their importances among the codes.

    A framework for the quantitative evaluation of disentangled representations (Eastwood & Williams, 2018),
    https://openreview.net/forum?id=By-7dz-AZ, section 2; trees as in disentanglement_lib
    """
    from sklearn.ensemble import GradientBoostingClassifier

    importance, right = np.zeros((codes.shape[1], factors.shape[1])), []
    for j in range(factors.shape[1]):
        model = GradientBoostingClassifier(random_state=0).fit(codes, factors[:, j])
        importance[:, j] = model.feature_importances_
        right.append(model.score(test_codes, test_factors[:, j]))
    return DCI(concentration(importance), concentration(importance.T), float(np.mean(right)))


def concentration(importance: np.ndarray) -> float:
    """Mean over rows, weighted by their sums, of 1 - H(row) / log(columns), in [0, 1]; 0 where all is zero."""
    total, columns = importance.sum(1), importance.shape[1]
    known = total > 0
    if columns < 2 or not known.any():
        return float(columns < 2)
    shares = importance[known] / total[known, None]
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return float(((1 + (shares * logs).sum(1) / np.log(columns)) * total[known]).sum() / total.sum())

"""Disentanglement: six measures of whether each code depends on one factor of variation, for known factors.

The constants are those of Challenging common assumptions in the unsupervised learning of disentangled representations
(Locatello et al., 2019), https://arxiv.org/abs/1811.12359, and its code disentanglement_lib. Factors are integers from
0, independent and uniform; `codes` maps factors (n, F) to codes (n, L).
"""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Codes = Callable[[np.ndarray], np.ndarray]

BATCH, TRAIN, EVALUATE = 64, 10_000, 5_000
BINS = 20  # of a code, for mutual information
ACTIVE = 0.05  # standard deviation below which FactorVAE's measure leaves out a code
BATCHES_PER_CALL = 200  # of codes


class DCI(NamedTuple):
    """Disentanglement, completeness and informativeness (test accuracy), in [0, 1]."""

    disentanglement: float
    completeness: float
    informativeness: float


def draw_factors(sizes: Sequence[int], n: int, random: np.random.Generator) -> np.ndarray:
    """n independent draws of the factors, (n, F), each uniform on 0..size - 1."""
    return random.integers(0, np.asarray(sizes), (n, len(sizes)))


def beta_vae(
    codes: Codes,
    sizes: Sequence[int],
    random: np.random.Generator,
    batch: int = BATCH,
    train: int = TRAIN,
    evaluate: int = EVALUATE,
) -> float:
    """Accuracy in [0, 1] of a linear classifier of the factor that pairs share, by the mean of |z - z'| over pairs.

    beta-VAE (Higgins et al., 2017), https://openreview.net/forum?id=Sy2fzU9gl, appendix A.4

    Args:
        codes: factors (n, F) -> codes (n, L).
        sizes: number of values of each factor, (F,).
        random: source of the draws.
        batch: pairs per mean, >= 1.
        train: means for the fit.
        evaluate: means for the accuracy.
    """
    from sklearn.linear_model import LogisticRegression

    def features_and_factors(n: int) -> tuple[np.ndarray, np.ndarray]:
        fixed, rows = random.integers(0, len(sizes), n), []
        for start in range(0, n, BATCHES_PER_CALL):
            which = fixed[start : start + BATCHES_PER_CALL]
            pairs = [draw_factors(sizes, len(which) * batch, random) for _ in range(2)]
            shared = (np.arange(len(which) * batch), which.repeat(batch))
            pairs[1][shared] = pairs[0][shared]
            distance = np.abs(codes(pairs[0]) - codes(pairs[1]))
            rows.append(distance.reshape(len(which), batch, -1).mean(1))
        return np.concatenate(rows), fixed

    features, fixed = features_and_factors(train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence, which the accuracy does not need
        model = LogisticRegression(max_iter=1000).fit(features, fixed)
    return float(model.score(*features_and_factors(evaluate)))


def factor_vae(
    codes: Codes,
    sizes: Sequence[int],
    random: np.random.Generator,
    batch: int = BATCH,
    train: int = TRAIN,
    evaluate: int = EVALUATE,
) -> tuple[float, int]:
    """Accuracy in [0, 1] of a majority-vote classifier of the fixed factor, and the number of active codes.

    Its input is the code with the smallest variance relative to that over all data; 0 without active codes.
    FactorVAE (Kim & Mnih, 2018), https://arxiv.org/abs/1802.05983, section 4

    Args:
        codes, sizes, random: as of beta_vae.
        batch: draws per variance, >= 2.
        train: votes for the fit, and draws for the variance over all data.
        evaluate: votes for the accuracy.
    """
    variance = codes(draw_factors(sizes, train, random)).var(0, ddof=1)
    active = np.flatnonzero(np.sqrt(variance) >= ACTIVE)
    if not len(active):
        return 0.0, 0

    def votes(n: int) -> np.ndarray:
        fixed, table = random.integers(0, len(sizes), n), np.zeros((len(active), len(sizes)))
        for start in range(0, n, BATCHES_PER_CALL):
            which = fixed[start : start + BATCHES_PER_CALL]
            factors = draw_factors(sizes, len(which) * batch, random).reshape(len(which), batch, -1)
            rows = np.arange(len(which))
            factors[rows, :, which] = factors[rows, :1, which]
            batches = codes(factors.reshape(-1, len(sizes)))[:, active].reshape(len(which), batch, -1)
            least = (batches.var(1, ddof=1) / variance[active]).argmin(1)
            np.add.at(table, (least, which), 1)
        return table

    choice, table = votes(train).argmax(1), votes(evaluate)
    return float(table[np.arange(len(active)), choice].sum() / evaluate), len(active)


def mutual_information(codes: np.ndarray, factors: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Empirical I(code; factor), nats, (L, F), each code in `bins` equal bins over its range."""
    from sklearn.metrics import mutual_info_score

    edges = [np.histogram_bin_edges(code, bins)[1:-1] for code in codes.T]
    binned = [np.digitize(code, edge) for code, edge in zip(codes.T, edges, strict=True)]
    return np.array([[mutual_info_score(factor, code) for factor in factors.T] for code in binned])


def entropy(factors: np.ndarray) -> np.ndarray:
    """Empirical entropy of each factor, nats, (F,)."""
    shares = [np.unique(factor, return_counts=True)[1] / len(factor) for factor in factors.T]
    return np.array([-(p * np.log(p)).sum() for p in shares])


def gap(table: np.ndarray) -> np.ndarray:
    """Largest minus second largest entry of each column; with one row, the largest."""
    ordered = np.sort(table, axis=0)
    return ordered[-1] - (ordered[-2] if len(ordered) > 1 else 0)


def mig(codes: np.ndarray, factors: np.ndarray, bins: int = BINS) -> float:
    """Mutual information gap in [0, 1]: mean over factors of (largest I - second largest I over codes) / H(factor).

    Isolating sources of disentanglement (Chen et al., 2018), https://arxiv.org/abs/1802.04942, eq. 6
    """
    return float((gap(mutual_information(codes, factors, bins)) / entropy(factors)).mean())


def modularity(codes: np.ndarray, factors: np.ndarray, bins: int = BINS) -> float:
    """Mean over codes of 1 - sum_{f != best} I_f^2 / (I_best^2 (F - 1)), in [0, 1]; 0 for a code without information.

    Learning deep disentangled embeddings with the F-statistic loss (Ridgeway &
    Mozer, 2018), https://arxiv.org/abs/1802.05312, section 3
    """
    squares = mutual_information(codes, factors, bins) ** 2
    best = squares.max(1)
    informative = best > 0
    rest = (squares.sum(1) - best)[informative] / (best[informative] * (factors.shape[1] - 1))
    return float((1 - rest).sum() / len(best))


def sap(codes: np.ndarray, factors: np.ndarray, test_codes: np.ndarray, test_factors: np.ndarray) -> float:
    """Separated attribute predictability in [0, 1]: mean gap between the two single codes that best predict a factor.

    Prediction is the test accuracy of a linear support vector machine, for discrete factors. Variational inference of
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
    """Concentration of the feature importances of gradient-boosted trees that predict each factor from the codes.

    A framework for the quantitative evaluation of disentangled representations (Eastwood & Williams, 2018),
    https://openreview.net/forum?id=By-7dz-AZ, section 2; trees as in disentanglement_lib
    """
    from sklearn.ensemble import GradientBoostingClassifier

    importance, accuracies = np.zeros((codes.shape[1], factors.shape[1])), []
    for j in range(factors.shape[1]):
        model = GradientBoostingClassifier(random_state=0).fit(codes, factors[:, j])
        importance[:, j] = model.feature_importances_
        accuracies.append(model.score(test_codes, test_factors[:, j]))
    return DCI(concentration(importance), concentration(importance.T), float(np.mean(accuracies)))


def concentration(importance: np.ndarray) -> float:
    """Mean over rows, weighted by their sums, of 1 - H(row) / log(columns), in [0, 1]; 0 for all zeros."""
    total, columns = importance.sum(1), importance.shape[1]
    positive = total > 0
    if columns < 2 or not positive.any():
        return float(columns < 2)
    shares = importance[positive] / total[positive, None]
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return float(((1 + (shares * logs).sum(1) / np.log(columns)) * total[positive]).sum() / total.sum())

"""The density that samples suggest: a Gaussian about each, by scikit-learn, its width by cross-validation."""

from typing import NamedTuple

import numpy as np

DECADES, STEPS = 2, 5  # of the bandwidths tried about the samples' own spread, and how many a decade
EXTENSIONS = 3  # decades by which the search follows a best value that lies at an end
WARNING = (
    "a kernel density of samples: in more than a few dimensions it says little of the model, and may rank one above "
    "the data themselves (Theis et al., 2016)"
)


class Density(NamedTuple):
    """log p of each point, nats, (m,), and the bandwidth that was chosen among how many."""

    nats: np.ndarray
    bandwidth: float
    tried: int


def kernel_density(samples: np.ndarray, points: np.ndarray, folds: int = 5, seed: int = 0) -> Density:
    """log p(x) = log 1/(n s^d) sum_i (2 pi)^(-d/2) exp(-||x - x_i||^2 / (2 s^2)) at points (m, d) of samples (n, d).

    s is the best of a geometric grid by the mean log-density of held-out samples, over `folds` folds; ValueError where
    no s is best, as for samples that coincide. Its cost is n (n + m) d a bandwidth.
    A note on the evaluation of generative models (Theis et al., 2016), https://arxiv.org/abs/1511.01844
    """
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.neighbors import KernelDensity

    samples, points = (np.asarray(rows, dtype=np.float64) for rows in (samples, points))
    if samples.ndim != 2 or points.ndim != 2 or samples.shape[1] != points.shape[1]:
        raise ValueError(f"a KDE needs rows of one length, got {samples.shape} and {points.shape}")
    if not 2 <= folds <= len(samples):
        raise ValueError(f"a KDE needs 2 <= folds <= samples, got {folds} and {len(samples)}")
    if not (np.isfinite(samples).all() and np.isfinite(points).all()):
        raise ValueError("a KDE needs finite samples and points")
    spread = samples.std(0).mean()
    if not spread > 0:
        raise ValueError(f"all {len(samples)} samples coincide: a KDE of them has no bandwidth")
    grid = spread * np.logspace(-DECADES + 0.5, 0.5, DECADES * STEPS + 1)
    cuts, tried = KFold(folds, shuffle=True, random_state=seed), 0
    for _ in range(EXTENSIONS + 1):
        search = GridSearchCV(KernelDensity(), {"bandwidth": grid}, cv=cuts).fit(samples)
        tried, best = tried + len(grid), search.best_index_
        if 0 < best < len(grid) - 1:
            return Density(search.best_estimator_.score_samples(points), float(grid[best]), tried)
        grid = grid * (0.1 if best == 0 else 10.0)
    raise ValueError(
        f"the best bandwidth of {len(samples)} samples lies beyond {grid[0]:.3g} to {grid[-1]:.3g}, their spread being "
        f"{spread:.3g}: some coincide, and their density has no limit; draw other samples, or leave the KDE out"
    )

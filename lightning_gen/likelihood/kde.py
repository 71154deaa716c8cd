"""Gaussian kernel density estimate of samples, by scikit-learn, with the bandwidth by cross-validation."""

from typing import NamedTuple

import numpy as np

DECADES, STEPS = 2, 5  # of the grid of bandwidths about the samples' standard deviation, and grid points per decade
EXTENSIONS = 3  # decades by which the grid moves where the best bandwidth lies on its border
WARNING = (
    "a kernel density of samples: in more than a few dimensions it says little of the model, and may rank one above "
    "the data themselves (Theis et al., 2016)"
)


class Density(NamedTuple):
    """log p of each point, nats, (m,), the bandwidth in units of the data, and how many bandwidths were tried."""

    nats: np.ndarray
    bandwidth: float
    tried: int


def kernel_density(samples: np.ndarray, points: np.ndarray, folds: int = 5, seed: int = 0) -> Density:
    """log p(x) = log 1/(n s^d) sum_i (2 pi)^(-d/2) exp(-||x - x_i||^2 / (2 s^2)) at points (m, d) of samples (n, d).

    s maximises the mean log-density of held-out samples on a geometric grid; ValueError where there is no maximum, as
    for samples that coincide. The cost is n (n + m) d per bandwidth.
    A note on the evaluation of generative models (Theis et al., 2016), https://arxiv.org/abs/1511.01844

    Args:
        samples: (n, d), finite.
        points: (m, d), finite.
        folds: of the cross-validation, in [2, n].
        seed: of the shuffle before the folds.
    """
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.neighbors import KernelDensity

    samples, points = (np.asarray(rows, dtype=np.float64) for rows in (samples, points))
    if samples.ndim != 2 or points.ndim != 2 or samples.shape[1] != points.shape[1]:
        raise ValueError(
            f"kernel_density got samples {samples.shape} and points {points.shape}, expected (n, d) and (m, d): "
            "flatten them"
        )
    if not 2 <= folds <= len(samples):
        raise ValueError(
            f"kernel_density got folds {folds}, expected 2 to {len(samples)}, the number of samples: change it"
        )
    if not (np.isfinite(samples).all() and np.isfinite(points).all()):
        raise ValueError("kernel_density got samples or points that are not finite, expected finite ones: remove them")
    spread = samples.std(0).mean()
    if not spread > 0:
        raise ValueError(
            f"kernel_density got {len(samples)} samples that coincide, expected different ones: draw others"
        )
    grid = spread * np.logspace(-DECADES + 0.5, 0.5, DECADES * STEPS + 1)
    splits, tried = KFold(folds, shuffle=True, random_state=seed), 0
    for _ in range(EXTENSIONS + 1):
        search = GridSearchCV(KernelDensity(), {"bandwidth": grid}, cv=splits).fit(samples)
        tried, best = tried + len(grid), search.best_index_
        if 0 < best < len(grid) - 1:
            return Density(search.best_estimator_.score_samples(points), float(grid[best]), tried)
        grid = grid * (0.1 if best == 0 else 10.0)
    raise ValueError(
        f"kernel_density got {len(samples)} samples of standard deviation {spread:.3g} whose best bandwidth is "
        f"outside of {grid[0]:.3g} to {grid[-1]:.3g}, since some coincide: draw other samples, or leave out the KDE"
    )

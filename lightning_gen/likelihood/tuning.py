"""Step sizes of annealed importance sampling for each inverse temperature, by a pilot run before the estimate."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from lightning_gen.likelihood.paths import EnergyPath

GAIN = (
    0.5  # of the recursion: step sizes follow a scale within a few temperatures, and fluctuate below 10 % for 50 chains
)
PILOT_BURN_IN = 100  # proposals at the first inverse temperature in (0, 1)


@torch.no_grad()
def tuned_steps(
    path: EnergyPath,
    betas: Sequence[float],
    n: int,
    generator: torch.Generator,
    progress: Callable[[], Any] | None = None,
) -> dict[float, float]:
    """Step size of each inverse temperature in (0, 1): log eta <- log eta + gain (acceptance rate - optimal).

    Stochastic approximation (Robbins & Monro, 1951) with a constant gain, since the best eta depends on beta. Weights
    of the pilot run would be biased, since its transitions adapt: fix the step sizes by `path.tune`, then draw weights.
    Optimal acceptance rate: for MALA (Roberts & Rosenthal, 1998), https://doi.org/10.1111/1467-9868.00123; for HMC
    (Beskos et al., 2013), https://arxiv.org/abs/1001.4460

    Args:
        path: the path, with proposals by MALA or HMC.
        betas: inverse temperatures 0 = beta_0 < ... < beta_K = 1.
        n: number of chains, >= 1.
        generator: source of the chains' noise.
        progress: called after each proposal, K - 1 + 100 times.
    """
    v, log_size = path.start(n, generator), math.log(path.sampler.step_size)
    parts, inner, sizes = path.evaluate(v), list(betas[1:-1]), {}
    for beta in inner[:1] * PILOT_BURN_IN + inner:
        sizes[beta] = math.exp(log_size)
        v, parts, accepted = path.propose(v, parts, beta, sizes[beta], generator)
        log_size += GAIN * (float(accepted.mean()) - path.sampler.optimal_acceptance)
        if progress is not None:
            progress()
    return sizes

"""Step sizes for annealed importance sampling, one a temperature: a pilot run finds them before the run that counts."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from lightning_gen.likelihood.paths import EnergyPath

GAIN = 0.5  # of the recursion: a change of scale by e takes a few temperatures, the noise of 50 chains stays below 10 %
SETTLE = 100  # moves at the first temperature, where nothing is known yet


@torch.no_grad()
def tuned_steps(
    path: EnergyPath,
    betas: Sequence[float],
    n: int,
    generator: torch.Generator,
    progress: Callable[[], Any] | None = None,
) -> dict[float, float]:
    """A step size for every inverse temperature between the ends, at the sampler's `optimal_acceptance`.

    log eta <- log eta + gain (share accepted - optimal), by n chains along the path, forward (Robbins & Monro, 1951,
    with a gain that does not fall, for the best size moves with beta). Weights taken on this run would be biased, as
    its moves depend on its past: give the sizes to `path.sizes`, where they are fixed, and draw the weights anew.
    `progress` is called len(betas) - 2 + 100 times. The optimum: Roberts & Rosenthal (1998),
    https://doi.org/10.1111/1467-9868.00123, for MALA; Beskos et al. (2013), https://arxiv.org/abs/1001.4460, for HMC.
    """
    v, log_size = path.start(n, generator), math.log(path.sampler.step_size)
    parts, inner, sizes = path.evaluate(v), list(betas[1:-1]), {}
    for beta in inner[:1] * SETTLE + inner:
        sizes[beta] = math.exp(log_size)
        v, parts, taken = path.propose(v, parts, beta, sizes[beta], generator)
        log_size += GAIN * (float(taken.mean()) - path.sampler.optimal_acceptance)
        if progress is not None:
            progress()
    return sizes

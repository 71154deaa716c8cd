"""The times of a reverse diffusion: falling from t = 1 while there is noise, and then 0 for data without noise."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from lightning_gen.process import Process

Spacing = Literal["trailing", "leading", "karras", "log_snr"]
RHO = 7.0
T_END = 1e-3  # the last time with noise of a process that starts without any (Song et al., 2021, appendix C)


def grid(
    process: Process,
    steps: int | Sequence[int] | None,
    spacing: str = "trailing",
    t_end: float | None = None,
    rho: float = RHO,
) -> list[float]:
    """`steps` times falling from 1, and 0.0 for data without noise; those of a discrete process are k / T.

    Args:
        process: the noising process.
        steps: number of times with noise; a rising list of k in 1..T; or null for all T of a discrete process.
        spacing: `trailing` is uniform in t from t = 1; `leading` has k = 1, 1 + c, 1 + 2 c, ... with c = T // steps
            (DDIM's paper), and so starts below t = 1; `log_snr` is uniform in log(alpha / sigma), `karras` in
            (sigma / alpha)^(1 / rho) (EDM, Karras et al., 2022, eq. 5).
        t_end: last time with noise of a continuous process, in [0, 1); null for 0 where sigma(0) > 0, else for 1e-3
            (`log_snr`, `karras`) or 1 / steps (`trailing`).
        rho: exponent of `karras`, > 0.
    """
    _check_end(process, t_end)
    if isinstance(steps, Sequence):
        return [*_listed(process, steps), 0.0]
    return [*_spaced(process, _number(process, steps), spacing, t_end, rho), 0.0]


def _check_end(process: Process, t_end: float | None) -> None:
    """ValueError unless noise ends at t_end in [0, 1), or it is null."""
    if t_end is None:
        return
    if process.steps is not None or not 0 <= t_end < 1:
        expected = "0 <= t_end < 1" if process.steps is None else "null for a discrete process"
        raise ValueError(f"t_end is {t_end}, expected {expected}: write null, for the default")
    if not noisy(process, t_end):
        raise ValueError(f"t_end is {t_end}, where {type(process).__name__} has no noise: give 0 < t_end < 1, or null")


def _listed(process: Process, steps: Sequence[int]) -> list[float]:
    """Times k / T of a rising list of k; ValueError for another list, or a continuous process."""
    total = process.steps
    if total is None or any(b <= a for a, b in pairwise(steps)):
        raise ValueError(f"steps is {list(steps)}, expected rising k for a discrete process: give a number of steps")
    if steps[0] < 1 or steps[-1] > total:
        raise ValueError(f"steps are {steps[0]} to {steps[-1]}, expected 1 <= k <= {total}: give others")
    return [k / total for k in reversed(steps)]


def _number(process: Process, steps: int | None) -> int:
    """Number of times, by default all T; ValueError for what the process does not have."""
    total = process.steps
    if steps is None and total is None:
        raise ValueError(
            f"sampler.steps is null, for all steps of a discrete process, and {type(process).__name__} is continuous: "
            "give a number, as sampler.steps=100"
        )
    steps = total if steps is None else steps
    if steps < 1 or (total is not None and steps > total):
        expected = "steps >= 1" if total is None else f"1 <= steps <= {total}"
        raise ValueError(f"steps is {steps}, expected {expected}: give another number")
    return steps


def _spaced(process: Process, steps: int, spacing: str, t_end: float | None, rho: float) -> list[float]:
    """`steps` times falling from 1 as `spacing` says."""
    total = process.steps
    if spacing == "leading":
        if total is None:
            raise ValueError(f"spacing leading needs a discrete process, got {type(process).__name__}: choose trailing")
        return [(1 + k * (total // steps)) / total for k in reversed(range(steps))]
    if spacing in ("karras", "log_snr"):
        return _by_level(process, steps, spacing, t_end, rho)
    if total is not None:
        return [round(total * (1 - i / steps)) / total for i in range(steps)]
    if t_end is None and not noisy(process, 0.0):
        return [1 - i / steps for i in range(steps)]
    return torch.linspace(1, t_end or 0.0, steps, dtype=torch.float64).tolist()


def noisy(process: Process, t: float) -> bool:
    """Whether the process has noise at time t."""
    return float(process.variance(torch.tensor(t, dtype=torch.float64))) > 0


def level(process: Process, t: Tensor) -> Tensor:
    """sigma_t / alpha_t, the shape of t."""
    return process.sigma(t) / process.alpha(t)


def _by_level(process: Process, steps: int, spacing: str, t_end: float | None, rho: float) -> list[float]:
    """Times from t = 1 whose noise levels sigma / alpha follow the spacing."""
    if t_end is None:
        t_end = 0.0 if noisy(process, 0.0) else 1 / process.steps if process.steps else T_END
    first, last = level(process, torch.tensor([1.0, t_end], dtype=torch.float64))
    share = torch.linspace(0, 1, steps, dtype=torch.float64)
    if spacing == "karras":
        levels = (first ** (1 / rho) + share * (last ** (1 / rho) - first ** (1 / rho))) ** rho
    else:
        levels = (first.log() + share * (last.log() - first.log())).exp()
    times = process.time(levels.square().reciprocal())
    if process.steps is None:
        return [1.0, *times[1:-1].tolist(), t_end] if steps > 1 else [1.0]
    # Rounded to the grid small levels would share one time, so each k is kept above the next, and k = 1 is the least.
    ks = (times * process.steps).round().long().tolist()
    for i in reversed(range(steps)):
        ks[i] = max(ks[i], (ks[i + 1] if i + 1 < steps else 0) + 1)
    return [min(k, process.steps - i) / process.steps for i, k in enumerate(ks)]

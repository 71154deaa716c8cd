"""log p(x) by the probability-flow ODE: the instantaneous change of variables along the path from data to noise.

For dx/dt = v(x, t), d log p_t(x_t) / dt = -div v. Score SDE (Song et al., 2021, eq. 39), https://arxiv.org/abs/2011.13456;
FFJORD (Grathwohl et al., 2019), https://arxiv.org/abs/1810.01367. Nothing is clipped here.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lightning_gen.models import ScoreModel
from lightning_gen.models.score import instant
from lightning_gen.process import Process

# Nodes and weights of explicit Runge-Kutta rules: each stage starts from the one before it alone.
RULES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "euler": ((0.0,), (1.0,)),
    "heun": ((0.0, 1.0), (0.5, 0.5)),
    "rk4": ((0.0, 0.5, 0.5, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
TICKS = 20  # parts of the path in which an adaptive solver reports its progress


class Flow:
    """nats = log p_1(x_1) + int div v: x is carried from t_start to t = 1 with the divergence of its way.

    solver: rk45 (SciPy's, adaptive, by rtol and atol) or euler, heun, rk4 in `steps` equal steps. Where sigma(t_start) > 0
    the variables are y = x / alpha and log(sigma / alpha), in which v is (sigma / alpha) E[noise | x_t] and smooth for any
    process; else x and t, which needs a score that is smooth at t = 0. trace: exact by d vector-Jacobian products, or
    hutchinson: v^T grad s v at `probes` directions v, drawn once for the whole path. t_start: null is 0 where
    sigma(0) > 0 (the density of the data with that noise), 1 / T for a discrete process, else 1e-5.
    The law at t = 1 is the model's prior: N(0, sigma_1^2 I) for VE, N(0, I) for VP.
    """

    def __init__(
        self,
        solver: Literal["rk45", "rk4", "heun", "euler"] = "rk45",
        steps: int = 100,
        rtol: float = 1e-5,
        atol: float = 1e-5,
        t_start: float | None = None,
        trace: Literal["hutchinson", "exact"] = "hutchinson",
        probes: int = 1,
        probe: Literal["rademacher", "gaussian"] = "rademacher",
    ) -> None:
        if solver not in (*RULES, "rk45") or trace not in ("hutchinson", "exact") or probe not in ("rademacher", "gaussian"):
            raise ValueError(
                "Flow needs solver rk45, rk4, heun or euler, trace hutchinson or exact, probe rademacher or gaussian, "
                f"got {solver}, {trace}, {probe}"
            )
        if steps < 1 or probes < 1 or not rtol > 0 or not atol > 0 or not (t_start is None or 0 <= t_start < 1):
            raise ValueError(
                f"Flow needs steps, probes >= 1, rtol, atol > 0, 0 <= t_start < 1 or null, "
                f"got {steps}, {probes}, {rtol}, {atol}, {t_start}"
            )
        self.solver, self.steps, self.rtol, self.atol = solver, steps, rtol, atol
        self.t_start, self.trace, self.probes, self.probe = t_start, trace, probes, probe

    @property
    def ticks(self) -> int:
        """How often `progress` is called."""
        return TICKS if self.solver == "rk45" else self.steps

    def check(self, process: Process) -> None:
        """Raise ValueError, one sentence, for a process whose noise does not grow from data to the prior."""
        low, high = process.sigma(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
        if not low < high:
            raise ValueError(
                f"the flow's likelihood needs a process that ends in noise, got {type(process).__name__} with sigma from "
                f"{low:.3g} to {high:.3g}: there is no path to a known law"
            )
        if process.steps is not None and self.t_start is not None and self.t_start < 1 / process.steps:
            raise ValueError(
                f"t_start is {self.t_start}, and the first noise of the discrete process is at 1 / {process.steps}: "
                "write null, or a time from there on"
            )

    def begin(self, process: Process) -> float:
        """The time at which the density is taken."""
        if self.t_start is not None:
            return self.t_start
        noisy = float(process.variance(torch.zeros((), dtype=torch.float64))) > 0
        return 0.0 if noisy else 1 / process.steps if process.steps else 1e-5

    def __call__(
        self,
        model: ScoreModel,
        x: Tensor,
        generator: torch.Generator | None = None,
        terminal: Callable[[Tensor], Tensor] | None = None,
        progress: Callable[[], Any] | None = None,
    ) -> tuple[Tensor, int]:
        """log p(x) at t_start, nats, float64, (B,), and how often the network was called; x (B, ...) in model space.

        `terminal` replaces the log-density of the prior, (B, ...) -> (B,).
        """
        process = model.process
        self.check(process)
        t = self.begin(process)
        directions = self.directions(x, generator)
        level = by_level(process, t, x)
        path = level if level is not None else by_time(process, t, x)
        calls = 0

        def slope(place: float, state: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal calls
            calls += 1
            return path.slope(model, place, state, lambda reading, at, time: divergence(reading, at, time, directions))

        solve = self.adaptive if self.solver == "rk45" else self.fixed
        end, gained = solve(slope, path.first, path.last, path.state, len(x), progress)
        x_end = path.data(end).to(x.dtype)
        known = (terminal or model.log_prior)(x_end).double()
        return known + gained + path.volume, calls

    def directions(self, x: Tensor, generator: torch.Generator | None) -> Sequence[Tensor] | None:
        """The probes, each like x; None for the exact trace."""
        if self.trace == "exact":
            return None
        drawn = [
            torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype) for _ in range(self.probes)
        ]
        return drawn if self.probe == "gaussian" else [torch.where(v < 0, -1.0, 1.0).to(x.dtype) for v in drawn]

    def fixed(
        self, slope: Callable, first: float, last: float, state: Tensor, n: int, progress: Callable | None
    ) -> tuple[Tensor, Tensor]:
        """The end of the path and int div, (B,), by equal steps."""
        nodes, weights = RULES[self.solver]
        h, total = (last - first) / self.steps, torch.zeros(n, dtype=torch.float64, device=state.device)
        for i in range(self.steps):
            move = gain = None
            moved, gained = torch.zeros_like(state), torch.zeros_like(total)
            for node, weight in zip(nodes, weights, strict=True):
                place = state if move is None else state + node * h * move
                move, gain = slope(first + (i + node) * h, place)
                moved, gained = moved + weight * move, gained + weight * gain
            state, total = state + h * moved, total + h * gained
            if progress is not None:
                progress()
        return state, total

    def adaptive(
        self, slope: Callable, first: float, last: float, state: Tensor, n: int, progress: Callable | None
    ) -> tuple[Tensor, Tensor]:
        """The same by SciPy's RK45, the batch and its divergences as one system on the host."""
        from scipy.integrate import RK45

        def flat(place: float, values: np.ndarray) -> np.ndarray:
            at = torch.from_numpy(values[: state.numel()]).to(state.device).view_as(state)
            move, gain = slope(place, at)
            return torch.cat([move.flatten(), gain]).cpu().numpy()

        begin = np.concatenate([state.flatten().cpu().numpy(), np.zeros(n)])
        solver, shown = RK45(flat, first, begin, last, rtol=self.rtol, atol=self.atol), 0
        while solver.status == "running":
            message = solver.step()
            if solver.status == "failed":
                raise RuntimeError(f"RK45 failed at {solver.t:.4g} on its way from {first:.4g} to {last:.4g}: {message}")
            done = int(TICKS * (solver.t - first) / (last - first) + 1e-9)
            for _ in range(done - shown if progress is not None else 0):
                progress()
            shown = done
        end = torch.from_numpy(solver.y).to(state.device)
        return end[: state.numel()].view_as(state), end[state.numel() :]


class Path:
    """The variables of an integration: from `first` to `last`, x as a state in float64, and the volume they leave out."""

    def __init__(self, first: float, last: float, state: Tensor, volume: float, data: Callable, slope: Callable) -> None:
        self.first, self.last, self.state, self.volume = first, last, state, volume
        self.data, self.slope = data, slope


def by_level(process: Process, t: float, x: Tensor) -> Path | None:
    """y = x / alpha over log(sigma / alpha); None where sigma(t) = 0, which is at minus infinity."""
    ends = torch.tensor([t, 1.0], dtype=torch.float64)
    alpha, sigma = process.alpha(ends).tolist(), process.sigma(ends).tolist()
    if sigma[0] == 0:
        return None
    first, last = (math.log(s / a) for s, a in zip(sigma, alpha, strict=True))

    def place(u: float) -> Tensor:
        snr = torch.tensor(math.exp(-2 * min(max(u, first), last)), dtype=torch.float64)
        return process.time(snr)

    def slope(model: ScoreModel, u: float, y: Tensor, along: Callable) -> tuple[Tensor, Tensor]:
        time = place(u)
        scale, noise = float(process.alpha(time)), float(process.sigma(time))
        reading, trace = along(model.noise, (scale * y).to(x.dtype), float(time))
        return (noise / scale) * reading.double(), noise * trace

    volume = x[0].numel() * (math.log(alpha[1]) - math.log(alpha[0]))
    return Path(first, last, x.double() / alpha[0], volume, lambda y: alpha[1] * y, slope)


def by_time(process: Process, t: float, x: Tensor) -> Path:
    """x over t."""

    def slope(model: ScoreModel, u: float, at: Tensor, along: Callable) -> tuple[Tensor, Tensor]:
        f, g2 = (float(c) for c in process.sde(torch.tensor(u, dtype=torch.float64)))
        reading, trace = along(model.score, at.to(x.dtype), u)
        return f * at - 0.5 * g2 * reading.double(), f * x[0].numel() - 0.5 * g2 * trace

    return Path(t, 1.0, x.double(), 0.0, lambda at: at, slope)


def divergence(
    reading: Callable, x: Tensor, t: float, directions: Sequence[Tensor] | None
) -> tuple[Tensor, Tensor]:
    """reading(x, t), (B, ...), and its divergence in x, float64, (B,), as plain values."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = reading(x, instant(t, x))
        if not value.requires_grad:
            return value.detach(), torch.zeros(len(x), dtype=torch.float64, device=x.device)
        if directions is None:
            flat, trace = value.flatten(1), 0
            for i in range(flat.shape[1]):
                (row,) = torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)
                trace = trace + row.flatten(1)[:, i].double()
        else:
            products = [v * torch.autograd.grad((value * v).sum(), x, retain_graph=True)[0] for v in directions]
            trace = torch.stack([product.flatten(1).double().sum(1) for product in products]).mean(0)
    return value.detach(), trace


def dequantised(x: Tensor, value_range: tuple[float, float], generator: torch.Generator) -> Tensor:
    """8-bit values in model space with uniform noise over their bins: width (high - low) / 255, centred, like x.

    Uniform dequantisation (Theis et al., 2016), https://arxiv.org/abs/1511.01844
    """
    u = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return x + (value_range[1] - value_range[0]) / 255 * (u - 0.5)


def bits_per_dim(nats: Tensor, d: int, value_range: tuple[float, float]) -> Tensor:
    """-log2 P(k) / d of 8-bit data from log p(x), nats, of its dequantised values, the shape of nats: the mean over the
    noise bounds it from above, log P(k) >= E log p(x) + d log(width of a bin)."""
    width = (value_range[1] - value_range[0]) / 255
    return -(nats / d + math.log(width)) / math.log(2)



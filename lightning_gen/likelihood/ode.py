"""log p(x) by the probability-flow ODE: the instantaneous change of variables on the way from data to noise.

For dx / dt = v(x, t), d log p_t(x_t) / dt = -div v. FFJORD (Grathwohl et al., 2019), https://arxiv.org/abs/1810.01367;
Score SDE (Song et al., 2021, eq. 39), https://arxiv.org/abs/2011.13456. Nothing is clipped here.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lightning_gen.models import Requires, Scored
from lightning_gen.options import Checked, Count, Positive, Rate
from lightning_gen.process import Process, instant

# Nodes and weights of explicit Runge-Kutta rules in which each stage starts from the one before it alone.
RULES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "euler": ((0.0,), (1.0,)),
    "heun": ((0.0, 1.0), (0.5, 0.5)),
    "rk4": ((0.0, 0.5, 0.5, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
EXACT = 8  # dimensions up to which the exact trace is the default
TICKS = 20  # parts of the path in which an adaptive solver reports its progress
T_START = 1e-5  # of a process that starts without noise (Song et al., 2021, appendix D)

Slope = Callable[[float, Tensor], tuple[Tensor, Tensor]]


class ODELikelihood(Checked, Requires):
    """log p(x) = log prior(x_1) + int div v along the ODE from t_start, where x is taken to lie, to t = 1.

    solver: rk45 (SciPy's, adaptive by rtol and atol, a batch at a time), or euler, heun, rk4 in `steps` equal steps.
    trace: exact, by as many vector-Jacobian products as dimensions, or hutchinson, the mean of v^T J v over `probes`
    directions v, kept along the whole path; null is exact up to 8 dimensions. t_start: null is 0 where sigma(0) > 0, so
    that the density is that of data with this noise, 1 / T for a discrete process, else 1e-5.
    """

    role = "likelihood"
    needs = (Scored,)
    supports = ("real",)

    def __init__(
        self,
        solver: Literal["rk45", "rk4", "heun", "euler"] = "rk45",
        steps: Count = 100,
        rtol: Positive = 1e-5,
        atol: Positive = 1e-5,
        t_start: Rate | None = None,
        trace: Literal["exact", "hutchinson"] | None = None,
        probes: Count = 1,
        probe: Literal["rademacher", "gaussian"] = "rademacher",
    ) -> None:
        self.solver, self.steps, self.rtol, self.atol = solver, steps, rtol, atol
        self.t_start, self.trace, self.probes, self.probe = t_start, trace, probes, probe

    @property
    def ticks(self) -> int:
        """How often `progress` is called."""
        return TICKS if self.solver == "rk45" else self.steps

    def check(self, model: Scored) -> None:
        """Refuse a model without a score (TypeError), a process without a path to noise, a time off that path."""
        super().check(model)
        process = model.process
        low, high = process.sigma(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
        if not low < high:
            raise ValueError(
                f"the likelihood by the ODE needs a process whose noise grows, got {type(process).__name__} with "
                f"sigma from {low:.3g} to {high:.3g}: nothing leads from its data to a known law"
            )
        if process.steps is not None and self.t_start is not None and self.t_start < 1 / process.steps:
            raise ValueError(
                f"t_start is {self.t_start}, and a process of {process.steps} steps has its first noise at "
                f"t = {1 / process.steps}: write null, or a time from there on"
            )

    def first_time(self, process: Process) -> float:
        """The time of x."""
        if self.t_start is not None:
            return self.t_start
        noisy = float(process.variance(torch.zeros((), dtype=torch.float64))) > 0
        return 0.0 if noisy else 1 / process.steps if process.steps else T_START

    def exact(self, d: int) -> bool:
        """Whether the trace is exact in d dimensions."""
        return self.trace == "exact" or (self.trace is None and d <= EXACT)

    def describe(self, process: Process, d: int) -> dict[str, Any]:
        """What a protocol stores: the options in force, and the noise in which the density is taken."""
        start, exact = self.first_time(process), self.exact(d)
        adaptive = {"rtol": self.rtol, "atol": self.atol}
        return {
            "solver": self.solver,
            **(adaptive if self.solver == "rk45" else {"steps": self.steps}),
            "t_start": start,
            "sigma_start": float(process.sigma(torch.tensor(start, dtype=torch.float64))),
            **({} if process.levels is None else {"trained_levels": process.levels}),
            "trace": "exact" if exact else "hutchinson",
            **({} if exact else {"probes": self.probes, "probe": self.probe}),
        }

    def __call__(
        self,
        model: Scored,
        x: Tensor,
        generator: torch.Generator | None = None,
        terminal: Callable[[Tensor], Tensor] | None = None,
        progress: Callable[[], Any] | None = None,
    ) -> tuple[Tensor, int]:
        """log p(x), nats, float64, (B,), and how often the network was called; x (B, ...) in model space.

        NaN where the model's output is not finite, or no step of rk45 is small enough.
        `terminal`, x_1 (B, ...) -> nats (B,), stands in for the model's prior: N(0, I), for VE N(0, sigma_1^2 I).
        """
        self.check(model)
        d = x[0].numel()
        path = ODEPath(model, self.first_time(model.process), d, x.dtype)
        directions, calls = self.directions(x, generator), 0

        def slope(place: float, z: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal calls
            calls += 1
            return path.slope(place, z, directions)

        solve = self.adaptive if self.solver == "rk45" else self.fixed
        z, gained = solve(slope, *path.ends, x.double() / path.scales[0], progress)
        known = (model.log_prior if terminal is None else terminal)(z * path.scales[1]).double()
        return known + gained + d * math.log(path.scales[1] / path.scales[0]), calls

    def directions(self, x: Tensor, generator: torch.Generator | None) -> list[Tensor] | None:
        """The probes, each like x; None for the exact trace."""
        if self.exact(x[0].numel()):
            return None
        normal = [torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype) for _ in range(self.probes)]
        return normal if self.probe == "gaussian" else [torch.where(v < 0, -1.0, 1.0).to(x.dtype) for v in normal]

    def fixed(
        self, slope: Slope, first: float, last: float, z: Tensor, progress: Callable[[], Any] | None
    ) -> tuple[Tensor, Tensor]:
        """The end of the path, like z, and int div, (B,), by equal steps."""
        nodes, weights = RULES[self.solver]
        h, total = (last - first) / self.steps, torch.zeros(len(z), dtype=z.dtype, device=z.device)
        for i in range(self.steps):
            move, moves, gains = z, 0, 0  # the first stage, at node 0, starts from z whatever `move` is
            for node, weight in zip(nodes, weights, strict=True):
                move, gain = slope(first + (i + node) * h, z + node * h * move)
                moves, gains = moves + weight * move, gains + weight * gain
            z, total = z + h * moves, total + h * gains
            if progress is not None:
                progress()
        return z, total

    def adaptive(
        self, slope: Slope, first: float, last: float, z: Tensor, progress: Callable[[], Any] | None
    ) -> tuple[Tensor, Tensor]:
        """The same by SciPy's RK45, the batch and its divergences one system in float64 on the host."""
        from scipy.integrate import RK45

        def flat(place: float, values: np.ndarray) -> np.ndarray:
            now = torch.from_numpy(values[: z.numel()]).to(z.device).view_as(z)
            return torch.cat([part.flatten() for part in slope(place, now)]).cpu().numpy()

        state = np.concatenate([z.flatten().cpu().numpy(), np.zeros(len(z))])
        # Left to choose its first step itself, SciPy would look for it for ever where a slope is NaN.
        first_step = (last - first) / 100
        solver, shown = RK45(flat, first, state, last, rtol=self.rtol, atol=self.atol, first_step=first_step), 0
        while solver.status == "running":
            solver.step()
            if solver.status == "failed":
                solver.y = state * np.nan
            done = int(TICKS * (solver.t - first) / (last - first) + 1e-9)
            for _ in range(done - shown if progress is not None else 0):
                progress()
            shown = done
        end = torch.from_numpy(solver.y).to(z.device)
        return end[: z.numel()].view_as(z), end[z.numel() :]


class ODEPath:
    """The ODE for z = x / c, c^2 = alpha^2 + sigma^2, over u = log(sigma / alpha): dz/du = -(sigma^2 / c^2) (z + c s).

    In these variables every process preserves the variance, a discrete one has no jumps, data of unit variance stay
    where they are, and nothing is singular as sigma falls. Where sigma(t_start) = 0, at u = -infinity, it is over t,
    with g^2 / 2 for sigma^2.
    """

    def __init__(self, model: Scored, start: float, d: int, dtype: torch.dtype) -> None:
        self.model, self.d, self.dtype = model, d, dtype
        ends = torch.tensor([start, 1.0], dtype=torch.float64)
        alpha, variance = model.process.alpha(ends), model.process.variance(ends)
        self.by_level = bool(variance[0] > 0)
        places = 0.5 * (variance.log() - 2 * alpha.log()) if self.by_level else ends
        self.ends, self.scales = places.tolist(), (alpha.square() + variance).sqrt().tolist()

    def time(self, place: float) -> Tensor:
        """t, (), float64, on the host."""
        if not self.by_level:
            return torch.tensor(place, dtype=torch.float64)
        first, last = self.ends
        return self.model.process.time(torch.tensor(-2 * min(max(place, first), last), dtype=torch.float64).exp())

    def slope(self, place: float, z: Tensor, directions: list[Tensor] | None) -> tuple[Tensor, Tensor]:
        """dz/du, like z, and its divergence, (B,), both float64."""
        process, t = self.model.process, self.time(place)
        alpha, variance = float(process.alpha(t)), float(process.variance(t))
        c = math.sqrt(alpha**2 + variance)
        # sigma^2 s is -sigma noise: networks give the noise, and s would be large
        rate = variance if self.by_level else float(process.sde(t)[1]) / 2
        reading, factor = (self.model.noise, -math.sqrt(variance)) if self.by_level else (self.model.score, rate)
        value, trace = divergence(reading, (c * z).to(self.dtype), float(t), directions)
        if place == 0 and not self.by_level and not torch.isfinite(value).all():
            raise ValueError("t_start is 0, and the model's score is not finite without noise: write null for it")
        return -(rate / c**2 * z + factor / c * value.double()), -(rate * self.d / c**2 + factor * trace)


def divergence(
    reading: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: float, directions: list[Tensor] | None
) -> tuple[Tensor, Tensor]:
    """reading(x, t), (B, ...), and its divergence in x, float64, (B,), as plain values; exact without directions."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = reading(x, instant(t, x))
        trace = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        if not value.requires_grad:
            raise ValueError(
                "the model's output has no derivative in x, and the likelihood by the ODE needs it: leave "
                "torch.inference_mode, and take torch.no_grad out of the model"
            )
        if directions is None:
            flat = value.flatten(1)
            for i in range(flat.shape[1]):
                (row,) = torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)
                trace += row.flatten(1)[:, i]
        for v in directions or ():
            (product,) = torch.autograd.grad(value, x, v, retain_graph=True)
            trace += (v * product).flatten(1).double().sum(1) / len(directions)
    return value.detach(), trace

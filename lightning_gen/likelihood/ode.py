"""log p(x) by the probability-flow ODE from data to noise, with the instantaneous change of variables.

For dx / dt = v(x, t), d log p_t(x_t) / dt = -div v. FFJORD (Grathwohl et al., 2019), https://arxiv.org/abs/1810.01367;
Score SDE (Song et al., 2021, eq. 39), https://arxiv.org/abs/2011.13456. Nothing is clipped.
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

# Nodes and weights of explicit Runge-Kutta rules in which each stage depends on the previous one alone.
RULES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "euler": ((0.0,), (1.0,)),
    "heun": ((0.0, 1.0), (0.5, 0.5)),
    "rk4": ((0.0, 0.5, 0.5, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
EXACT = 8  # dimensions up to which null means the exact trace
TICKS = 20  # of progress in a solve by an adaptive solver
T_START = 1e-5  # where sigma(0) = 0 (Song et al., 2021, appendix D)

Slope = Callable[[float, Tensor], tuple[Tensor, Tensor]]


class ODELikelihood(Checked, Requires):
    """log p(x) = log prior(x_1) + int_{t_start}^1 div v(x_t, t) dt along dx / dt = v(x, t), with x at t_start.

    FFJORD (Grathwohl et al., 2019), https://arxiv.org/abs/1810.01367; Score SDE (Song et al., 2021),
    https://arxiv.org/abs/2011.13456

    Args:
        solver: rk45, SciPy's adaptive one, for a whole batch; or euler, heun, rk4 with equal steps.
        steps: number of equal steps, >= 1.
        rtol: relative tolerance of rk45, > 0.
        atol: absolute tolerance of rk45, > 0.
        t_start: time of x, in [0, 1); null for 0 where sigma(0) > 0 (the density of data with that noise), 1 / T for a
            discrete process, else 1e-5; 0 is possible for velocities.
        trace: exact, by d vector-Jacobian products, or hutchinson, the mean of v^T J v over random directions v, the
            same along the path; null for exact up to 8 dimensions.
        probes: number of directions of hutchinson, >= 1.
        probe: distribution of the directions, rademacher or gaussian.
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
        """Number of calls of `progress`."""
        return TICKS if self.solver == "rk45" else self.steps

    def check(self, model: Scored) -> None:
        """TypeError for a model without a score; ValueError for noise that does not grow, or a t_start below 1 / T."""
        super().check(model)
        process = model.process
        low, high = process.sigma(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
        if not low < high:
            raise ValueError(
                f"ODELikelihood needs a process with noise that grows, got {type(process).__name__} with sigma from "
                f"{low:.3g} to {high:.3g}: choose another process or another estimator"
            )
        if process.steps is not None and self.t_start is not None and self.t_start < 1 / process.steps:
            raise ValueError(
                f"t_start is {self.t_start}, and a process of {process.steps} steps has its first noise at "
                f"t = {1 / process.steps}: write null, or a time from there on"
            )

    def first_time(self, process: Process) -> float:
        """Time of x, in [0, 1)."""
        if self.t_start is not None:
            return self.t_start
        has_noise = float(process.variance(torch.zeros((), dtype=torch.float64))) > 0
        return 0.0 if has_noise else 1 / process.steps if process.steps else T_START

    def is_exact(self, d: int) -> bool:
        """Whether the trace is exact in d dimensions."""
        return self.trace == "exact" or (self.trace is None and d <= EXACT)

    def describe(self, process: Process, d: int) -> dict[str, Any]:
        """Options in effect and sigma(t_start), as a protocol stores them."""
        start, exact = self.first_time(process), self.is_exact(d)
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
        """log p(x), nats, float64, (B,), and the number of network evaluations.

        NaN where the model's output is not finite, or no step of rk45 is small enough.

        Args:
            model: a model with a score.
            x: data, (B, ...), in model space.
            generator: source of hutchinson's directions.
            terminal: log-density of x_1, (B, ...) -> nats (B,); None for the model's prior.
            progress: called `ticks` times.
        """
        self.check(model)
        d = x[0].numel()
        path = ODEPath(model, self.first_time(model.process), d, x.dtype)
        directions, calls = self.directions(x, generator), 0

        def slope(u: float, z: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal calls
            calls += 1
            return path.slope(u, z, directions)

        solve = self.adaptive if self.solver == "rk45" else self.fixed
        z, integral = solve(slope, *path.limits, x.double() / path.scales[0], progress)
        log_prior = (model.log_prior if terminal is None else terminal)(z * path.scales[1]).double()
        return log_prior + integral + d * math.log(path.scales[1] / path.scales[0]), calls

    def directions(self, x: Tensor, generator: torch.Generator | None) -> list[Tensor] | None:
        """Random directions, each like x; None for the exact trace."""
        if self.is_exact(x[0].numel()):
            return None
        normal = [torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype) for _ in range(self.probes)]
        return normal if self.probe == "gaussian" else [torch.where(v < 0, -1.0, 1.0).to(x.dtype) for v in normal]

    def fixed(
        self, slope: Slope, first: float, last: float, z: Tensor, progress: Callable[[], Any] | None
    ) -> tuple[Tensor, Tensor]:
        """Solution at `last`, like z, and the integral of the divergence, (B,), by equal steps from `first`."""
        nodes, weights = RULES[self.solver]
        h, total = (last - first) / self.steps, torch.zeros(len(z), dtype=z.dtype, device=z.device)
        for i in range(self.steps):
            k, total_k, total_divergence = z, 0, 0  # the first stage has node 0, so that k does not enter
            for node, weight in zip(nodes, weights, strict=True):
                k, divergence = slope(first + (i + node) * h, z + node * h * k)
                total_k, total_divergence = total_k + weight * k, total_divergence + weight * divergence
            z, total = z + h * total_k, total + h * total_divergence
            if progress is not None:
                progress()
        return z, total

    def adaptive(
        self, slope: Slope, first: float, last: float, z: Tensor, progress: Callable[[], Any] | None
    ) -> tuple[Tensor, Tensor]:
        """The same by SciPy's RK45, for the batch as one system in float64 on the host; NaN where it fails."""
        from scipy.integrate import RK45

        def derivative(u: float, values: np.ndarray) -> np.ndarray:
            state = torch.from_numpy(values[: z.numel()]).to(z.device).view_as(z)
            return torch.cat([part.flatten() for part in slope(u, state)]).cpu().numpy()

        state = np.concatenate([z.flatten().cpu().numpy(), np.zeros(len(z))])
        # Without a first step SciPy would search for one without end where a slope is NaN.
        first_step = (last - first) / 100
        solver = RK45(derivative, first, state, last, rtol=self.rtol, atol=self.atol, first_step=first_step)
        reported = 0
        while solver.status == "running":
            solver.step()
            if solver.status == "failed":
                solver.y = state * np.nan
            done = int(TICKS * (solver.t - first) / (last - first) + 1e-9)
            for _ in range(done - reported if progress is not None else 0):
                progress()
            reported = done
        end = torch.from_numpy(solver.y).to(z.device)
        return end[: z.numel()].view_as(z), end[z.numel() :]


class ODEPath:
    """The ODE for z = x / c, c^2 = alpha^2 + sigma^2, over u = log(sigma / alpha): dz/du = -(sigma^2 / c^2) (z + c s).

    In these variables data of unit variance are a fixed point, a discrete process is continuous, and the right-hand
    side is finite as sigma falls. Where sigma(t_start) = 0, u is t instead, with g^2 / 2 for sigma^2. For a velocity, u
    is t and z is x: dx/dt = velocity, which is finite at alpha(1) = 0, too.

    Args:
        model: a model with a score.
        start: t_start, in [0, 1).
        d: dimensions of x.
        dtype: floating-point type of the model's input.
    """

    def __init__(self, model: Scored, start: float, d: int, dtype: torch.dtype) -> None:
        self.model, self.d, self.dtype = model, d, dtype
        times = torch.tensor([start, 1.0], dtype=torch.float64)
        alpha, variance = model.process.alpha(times), model.process.variance(times)
        self.by_velocity = model.defined() == "velocity"
        self.by_level = bool(variance[0] > 0) and not self.by_velocity
        limits = 0.5 * (variance.log() - 2 * alpha.log()) if self.by_level else times
        scales = torch.ones_like(alpha) if self.by_velocity else (alpha.square() + variance).sqrt()
        self.limits, self.scales = limits.tolist(), scales.tolist()

    def time(self, u: float) -> Tensor:
        """t at u, (), float64, on the host."""
        if not self.by_level:
            return torch.tensor(u, dtype=torch.float64)
        first, last = self.limits
        return self.model.process.time(torch.tensor(-2 * min(max(u, first), last), dtype=torch.float64).exp())

    def slope(self, u: float, z: Tensor, directions: list[Tensor] | None) -> tuple[Tensor, Tensor]:
        """dz/du, like z, and its divergence, (B,), both float64."""
        process, t = self.model.process, self.time(u)
        if self.by_velocity:
            value, trace = divergence(self.model.velocity, z.to(self.dtype), float(t), directions)
            return value.double(), trace
        alpha, variance = float(process.alpha(t)), float(process.variance(t))
        c = math.sqrt(alpha**2 + variance)
        # sigma^2 s = -sigma noise, and the noise stays finite where s is large.
        rate = variance if self.by_level else float(process.sde(t)[1]) / 2
        field, factor = (self.model.noise, -math.sqrt(variance)) if self.by_level else (self.model.score, rate)
        value, trace = divergence(field, (c * z).to(self.dtype), float(t), directions)
        if u == 0 and not self.by_level and not torch.isfinite(value).all():
            raise ValueError(
                "ODELikelihood.t_start is 0, where the model's score is not finite, expected a time with a finite one: "
                "write null"
            )
        return -(rate / c**2 * z + factor / c * value.double()), -(rate * self.d / c**2 + factor * trace)


def divergence(
    field: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: float, directions: list[Tensor] | None
) -> tuple[Tensor, Tensor]:
    """field(x, t), (B, ...), and its divergence in x, float64, (B,), detached; exact where directions is None."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = field(x, instant(t, x))
        trace = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        if not value.requires_grad:
            raise ValueError(
                "the model's output has no derivative in x, which ODELikelihood needs: leave torch.inference_mode, and "
                "remove torch.no_grad from the model"
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

"""The probability-flow ODE by an adaptive solver of SciPy."""

from collections.abc import Generator
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from lightning_gen.models import Scored
from lightning_gen.options import Positive, Rate
from lightning_gen.process import Process, instant
from lightning_gen.randomness import Source
from lightning_gen.samplers.base import Denoising, ReverseDiffusion, Transition
from lightning_gen.samplers.grids import grid


class RK45(ReverseDiffusion):
    """Dormand-Prince 5(4) of SciPy on dy / dlog(lambda) = lambda E[noise | x_t], the batch as one system in float64.

    The error is controlled for the batch as a whole, so whole blocks of samples are drawn. The number of evaluations is
    unknown in advance; the trajectory returns it.
    Score SDE (Song et al., 2021, appendix D.4), https://arxiv.org/abs/2011.13456

    Args:
        rtol: relative tolerance of each step, > 0.
        atol: absolute tolerance of each step, in units of x / alpha, > 0.
        points: number of times at which the trajectory is returned, evenly spaced in log lambda, >= 2.
        t_end: last time with noise, in [0, 1); null for 0 where sigma(0) > 0, else 1e-3.
        denoise: whether a last step gives E[x_0 | x_t]; if not, samples keep the noise of t_end.
    """

    adaptive = True
    independent = False

    def __init__(
        self,
        rtol: Positive = 1e-5,
        atol: Positive = 1e-5,
        points: Annotated[int, Ge(2)] = 20,
        t_end: Rate | None = None,
        denoise: bool = True,
    ) -> None:
        self.rtol, self.atol, self.points, self.t_end, self.denoise = rtol, atol, points, t_end, denoise

    def times(self, process: Process) -> list[float]:
        """The times at which the trajectory is returned, and 0.0."""
        return grid(process, self.points, "log_snr", self.t_end)

    def plan(self, model: Scored, shape: tuple[int, ...]) -> list[Transition]:
        """(alpha_t, lambda_t, alpha_s, lambda_s) of each returned interval, and the denoising step."""
        rows = self.moments(model.process)
        plan = [
            Transition(t, s, (alpha_t, sigma_t / alpha_t, alpha_s, sigma_s / alpha_s), 0)
            for t, s, (alpha_t, sigma_t, alpha_s, sigma_s, _, _) in rows[:-1]
        ]
        return plan + [Denoising(rows[-1][0], 0.0)] * self.denoise

    def evaluations(self, model: Scored, shape: tuple[int, ...]) -> None:
        """None: the number depends on the samples."""
        return None

    def trajectory(self, model: Scored, x: Tensor, generator: Source = None) -> Generator[Tensor, None, int]:
        """x itself, then x at each time of `plan`, (B, ...); returns the number of model evaluations."""
        from scipy.integrate import RK45 as Solver

        self.check(model)
        process = model.process
        plan = [step for step in self.plan(model, tuple(x.shape)) if not isinstance(step, Denoising)]
        yield x

        def state(y: np.ndarray, alpha: float) -> Tensor:
            return torch.from_numpy(alpha * y).to(x.dtype).to(x.device).view_as(x)

        def slope(log_level: float, y: np.ndarray) -> np.ndarray:
            # Unclipped, rounding would leave the range of the process.
            level = np.exp(np.clip(log_level, last_level, first_level))
            t = process.time(torch.tensor(level**-2.0, dtype=torch.float64))
            x_t = state(y, float(process.alpha(t)))
            noise = model.noise(x_t, instant(float(t), x_t)).detach().double().cpu().numpy().ravel()
            nonlocal calls
            calls += 1
            if not np.isfinite(noise).all():
                raise FloatingPointError  # SciPy would halve its step without end
            return level * noise

        first_level, last_level = np.log(plan[0].coefficients[1]), np.log(plan[-1].coefficients[3])
        y = x.detach().double().cpu().numpy().ravel() / plan[0].coefficients[0]
        interpolant = solver = None
        x_s, calls = x, 0
        for transition in plan:
            _, _, alpha, level = transition.coefficients
            target = max(np.log(level), last_level)
            try:
                solver = solver or Solver(slope, first_level, y, last_level, rtol=self.rtol, atol=self.atol)
                while solver.t > target and solver.status == "running":
                    message = solver.step()
                    if solver.status == "failed":
                        raise RuntimeError(
                            f"RK45 failed at sigma / alpha = {np.exp(solver.t):.4g} ({message}): raise rtol and atol"
                        )
                    interpolant = solver.dense_output()
                x_s = state(interpolant(target), alpha)
            except FloatingPointError:
                break
            yield x_s
        else:
            if self.denoise:
                yield model.denoise(x_s, instant(plan[-1].s, x_s))
            return calls + self.denoise
        # The model has diverged: as with any sampler the samples are not finite, which the caller checks.
        for _ in range(len(plan) - plan.index(transition) + self.denoise):
            yield torch.full_like(x, torch.nan)
        return calls

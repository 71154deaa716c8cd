"""Markov chains that stay at their density: Langevin, its Metropolis-adjusted form, and annealed Langevin.

The overdamped Langevin diffusion dx = s dt + sqrt(2) dw leaves p invariant; a step of size eta is
x + eta s(x) + sqrt(2 eta) z. Its own stationary law is biased: on N(0, 1) the variance is 1 / (1 - eta / 2).
"""

import math
from collections.abc import Sequence
from typing import Literal, Self

import torch
from torch import Tensor

from lightning_gen.models import Model, Scored, SmoothEnergy
from lightning_gen.models.base import combine
from lightning_gen.options import Count, Positive, Rate, UnitInterval
from lightning_gen.process import Process
from lightning_gen.randomness import Source, normal, uniform
from lightning_gen.samplers.base import Denoising, Stepwise, Transition, noise_like, with_readings

Start = Literal["normal", "uniform", "prior"]


class MarkovChain(Stepwise):
    """What the chains share: where they start.

    normal: N(0, spread^2 I); uniform: on [-spread, spread]; prior: the model's.
    """

    def __init__(self, start: Start, spread: Positive) -> None:
        self.start_law, self.spread = start, float(spread)

    def start(self, model: Model, shape: tuple[int, ...], generator: Source = None) -> Tensor:
        """x at the beginning of the chains, `shape` = (B, ...)."""
        if self.start_law == "prior":
            return model.prior(shape, generator)
        if self.start_law == "normal":
            return self.spread * normal(shape, generator)
        return self.spread * (2 * uniform(shape, generator) - 1)

    def log_start(self, x: Tensor) -> Tensor:
        """log density of the start at x (B, ...) up to a constant, (B,): -inf outside of a uniform one."""
        rows = x.flatten(1)
        if self.start_law == "normal":
            return -0.5 * rows.square().sum(1) / self.spread**2
        inside = (rows.abs() <= self.spread).all(1)
        return torch.where(inside, 0.0, -math.inf).to(x.dtype)

    def check(self, model: Model) -> None:
        """Refuse a model that does not fit, and to start from a prior that is a point."""
        super().check(model)
        if self.start_law == "prior" and (reason := model.why_no_prior()):
            raise ValueError(f"sampler.start is prior, and {reason}: choose normal or uniform")


class Langevin(MarkovChain):
    """Unadjusted Langevin at one time t of the process, by default the data's own density.

    convention `eta` is x + eta s + sqrt(2 eta) z, `epsilon` is x + (eps / 2) s + sqrt(eps) z with eps = 2 eta, as in
    Song's papers. At noise level sigma(t) the chain reaches the noised density; `denoise` takes the noise out once, by
    Tweedie's formula. At a `temperature` T the noise is sqrt(T) times as long, and the chain's law is p^(1/T).
    Roberts & Tweedie (1996), https://doi.org/10.2307/3318418
    """

    needs = (Scored,)
    supports = ("real",)
    by_row = True

    def __init__(
        self,
        steps: Count = 1000,
        step_size: Positive = 1e-3,
        convention: Literal["eta", "epsilon"] = "eta",
        t: UnitInterval = 0.0,
        denoise: bool = False,
        start: Start = "normal",
        spread: Positive = 1.0,
        temperature: Positive = 1.0,
    ) -> None:
        super().__init__(start, spread)
        self.steps, self.step_size, self.convention, self.t, self.denoise = steps, step_size, convention, t, denoise
        self.temperature = temperature

    def check(self, model: Scored) -> None:
        """Refuse to denoise what has no noise, and a time at which a noised model has lost noise and score."""
        super().check(model)
        now, last = model.process.sigma(torch.tensor([self.t, 1.0], dtype=torch.float64)).tolist()
        if now == 0 and last > 0:
            name = type(model.process).__name__
            raise ValueError(f"sampler.t is {self.t}, where {name} has no noise: give a time above 0, as 1e-3")
        if self.denoise and now == 0:
            raise ValueError("sampler.denoise is true, but the model is one of data without noise: write false")

    def plan(self, model: Scored, shape: tuple[int, ...]) -> list[Transition]:
        """The factors of the score and of fresh noise, the same at every step."""
        eta = self.step_size if self.convention == "eta" else self.step_size / 2
        move = Transition(self.t, self.t, (eta, math.sqrt(2 * eta * self.temperature)))
        move, last = with_readings(model, [move, Denoising(self.t, self.t)])
        return [move] * self.steps + [last] * self.denoise

    def step(
        self, model: Scored, x: Tensor, transition: Transition, carry: None, generator: Source
    ) -> tuple[Tensor, None]:
        """One Langevin step, (B, ...)."""
        return langevin_step(model, x, transition, generator), None


def langevin_step(model: Scored, x: Tensor, transition: Transition, generator: Source) -> Tensor:
    """x + drift s(x) + noise z by the transition's coefficients, (B, ...); the score is a x + b F."""
    drift, noise = transition.coefficients
    a, b = transition.readings[0].score
    output = model.output(x, transition.readings[0])
    return combine((1 + drift * a, x), (drift * b, output), (noise, noise_like(x, generator)))


def metropolis(
    here: tuple[Tensor, Tensor, Tensor],
    there: tuple[Tensor, Tensor, Tensor],
    log_ratio: Tensor,
    share: Tensor,
    n: int,
    generator: Source,
) -> tuple[Tensor, tuple]:
    """Place, energy and score of each chain where it goes: `there` with probability min(1, e^log_ratio), else `here`.

    The carry is (energy, score, share of proposals taken, (B,), how many). Metropolis et al. (1953); Hastings (1970)
    """
    (x, energy, score), (proposal, new_energy, new_score) = here, there
    u = uniform((len(x),), generator, x.device, log_ratio.dtype)
    accept = u.log() < log_ratio  # a proposal that is not finite is not taken
    wide = accept.reshape(-1, *[1] * (x.ndim - 1))
    share = share + (accept.to(share.dtype) - share) / (n + 1)
    energy = torch.where(accept, new_energy, energy)
    return torch.where(wide, proposal, x), (energy, torch.where(wide, new_score, score), share, n + 1)


class MALA(MarkovChain):
    """Langevin proposals x' = x + eta s(x) + sqrt(2 eta T) z, accepted with min(1, p(x') q(x|x') / p(x) q(x'|x)).

    With probability `jump` a chain proposes a draw of its start's law instead, accepted with min(1, p(x') q(x) / p(x)
    q(x')): in few dimensions it finds every mode so, however far apart they lie. A mixture of two kernels that both
    leave exp(-E / T), T the temperature, exactly invariant for any step does so, too. The carry is (energy, score,
    share of accepted proposals so far, (B,), steps); all of it stays on the device.
    Roberts & Tweedie (1996), https://doi.org/10.2307/3318418; Tierney (1994), https://doi.org/10.1214/aos/1176325750
    """

    needs = (SmoothEnergy,)
    supports = ("real",)
    by_row = True
    optimal_acceptance = 0.574  # share of proposals, in many dimensions: Roberts & Rosenthal (1998)

    def __init__(
        self,
        steps: Count = 1000,
        step_size: Positive = 1e-2,
        start: Start = "normal",
        spread: Positive = 1.0,
        temperature: Positive = 1.0,
        jump: Rate = 0.0,
    ) -> None:
        if jump and start == "prior":
            raise ValueError(
                f"MALA.jump is {jump}, to draws of its start's law, and start is prior, whose density is not known: "
                "choose start normal or uniform, or jump 0"
            )
        super().__init__(start, spread)
        self.steps, self.step_size, self.temperature, self.jump = steps, step_size, temperature, jump

    def plan(self, model: SmoothEnergy, shape: tuple[int, ...]) -> list[Transition]:
        """eta and sqrt(2 eta T); the first step also looks at where it stands."""
        first, move = (self.proposal(self.step_size, evaluations) for evaluations in (2, 1))
        return [first] + [move] * (self.steps - 1)

    def proposal(self, step_size: float, evaluations: int = 1) -> Transition:
        """One step of this size."""
        return Transition(0.0, 0.0, (step_size, math.sqrt(2 * step_size * self.temperature)), evaluations)

    def step(
        self, model: SmoothEnergy, x: Tensor, transition: Transition, carry: tuple, generator: Source
    ) -> tuple[Tensor, tuple]:
        """One proposal, taken or not, for each chain, (B, ...)."""
        eta, spread = transition.coefficients
        # Half precision would lose the differences of energies that the test is made of.
        with torch.autocast(x.device.type, enabled=False):
            energy, score, share, n = carry or (*model.energy_and_score(x), torch.zeros(len(x), device=x.device), 0)
            z = noise_like(x, generator)
            proposal = x + eta * score + spread * z
            if self.jump:
                far = uniform((len(x),), generator, x.device) < self.jump
                fresh = self.start(model, tuple(x.shape), generator).to(x)
                proposal = torch.where(far.reshape(-1, *[1] * (x.ndim - 1)), fresh, proposal)
            new_energy, new_score = model.energy_and_score(proposal)
            back = (x - proposal - eta * new_score).flatten(1).square().sum(1) / (2 * spread**2)
            log_q = 0.5 * z.flatten(1).square().sum(1) - back
            if self.jump:
                log_q = torch.where(far, self.log_start(x) - self.log_start(proposal), log_q)
            log_ratio = (energy - new_energy) / self.temperature + log_q
        here, there = (x, energy, score), (proposal, new_energy, new_score)
        return metropolis(here, there, log_ratio, share, n, generator)


class AnnealedLangevin(MarkovChain):
    """`steps_each` Langevin steps at each of L geometric levels of a VE, from the largest; then one denoising step.

    At level sigma_i the step is alpha_i = epsilon sigma_i^2 / sigma_L^2. step_rule `v1` is the paper's algorithm 1,
    x + (alpha_i / 2) s + sqrt(alpha_i) z; `v1_code` what its code runs, x + alpha_i s + sqrt(2 alpha_i) z, twice the
    step; `technique4` the same with epsilon, where it is null, such that the variance left at each level is closest to
    sigma_i^2. levels: null takes the model's.
    NCSN (Song & Ermon, 2019), https://arxiv.org/abs/1907.05600; NCSNv2 (2020), https://arxiv.org/abs/2006.09011
    """

    needs = (Scored,)
    supports = ("real",)
    by_row = True

    def __init__(
        self,
        levels: Count | None = None,
        steps_each: Count = 5,
        step_rule: Literal["v1", "v1_code", "technique4"] = "technique4",
        epsilon: Positive | None = None,
        denoise: bool = True,
        start: Start = "prior",
        spread: Positive = 1.0,
    ) -> None:
        if epsilon is None and step_rule != "technique4":
            raise ValueError(
                f"sampler.epsilon is null, and step_rule {step_rule}: give a number (NCSN: 2e-5), or technique4"
            )
        super().__init__(start, spread)
        self.levels, self.steps_each, self.step_rule = levels, steps_each, step_rule
        self.epsilon, self.denoise = epsilon, denoise

    def check(self, model: Scored) -> None:
        """Refuse a process that scales the data, or has no smallest level."""
        super().check(model)
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
        if float(model.process.alpha(ends[1])) != 1 or float(model.process.variance(ends[0])) == 0:
            raise TypeError(
                f"sampler AnnealedLangevin needs levels sigma_1 > ... > sigma_L > 0 of a VE that starts at sigma_min, "
                f"got {type(model.process).__name__}: choose predictor_corrector"
            )

    def plan(self, model: Scored, shape: tuple[int, ...]) -> list[Transition]:
        """Each level's time and its factors of score and noise."""
        return with_readings(model, self.transitions(model.process))

    def with_steps(self, steps: int) -> Self:
        """A copy that takes `steps` steps at each level."""
        return self.with_options(steps_each=steps)

    def transitions(self, process: Process) -> list[Transition]:
        """The transitions without the model's scalars."""
        count = self.levels or process.levels
        if count is None:
            raise ValueError("sampler.levels is null, and the model was trained on all levels: give their number")
        times = [1 - i / max(count - 1, 1) for i in range(count)]
        sigmas = process.sigma(torch.tensor(times, dtype=torch.float64)).tolist()
        epsilon = self.epsilon
        if epsilon is None:
            if sigmas[0] == sigmas[-1]:
                raise ValueError("technique4 needs levels that fall, got one level: give sampler.epsilon")
            epsilon = technique4(sigmas[-1], sigmas[0] / sigmas[1], self.steps_each)
        plan = []
        for t, sigma in zip(times, sigmas, strict=True):
            size = epsilon * (sigma / sigmas[-1]) ** 2
            drift, variance = (size / 2, size) if self.step_rule == "v1" else (size, 2 * size)
            plan += [Transition(t, t, (drift, math.sqrt(variance)))] * self.steps_each
        return plan + [Denoising(times[-1], 0.0)] * self.denoise

    step = Langevin.step


def technique4(sigma: float, ratio: float, steps: int) -> float:
    """epsilon at which `steps` steps from variance ratio^2 sigma_i^2 leave a variance nearest to sigma_i^2.

    NCSNv2 (Song & Ermon, 2020, proposition 3), https://arxiv.org/abs/2006.09011
    """

    def left(u: float) -> float:
        stationary = 1 / (1 - u / 2)
        return (1 - u) ** (2 * steps) * (ratio**2 - stationary) + stationary

    candidates: Sequence[float] = torch.logspace(-6, 0, 20001, dtype=torch.float64).tolist()
    return sigma**2 * min(candidates, key=lambda u: abs(left(u) - 1))

"""Markov chains that stay at their density: Langevin, its Metropolis-adjusted form, and annealed Langevin.

The overdamped Langevin diffusion dx = s dt + sqrt(2) dw leaves p invariant; a step of size eta is
x + eta s(x) + sqrt(2 eta) z. Its own stationary law is biased: on N(0, 1) the variance is 1 / (1 - eta / 2).
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lightning_gen.models import EnergyModel, ScoreModel
from lightning_gen.models.score import instant
from lightning_gen.process import Process
from lightning_gen.samplers.base import Denoising, Sampler, Transition, noise_like

Start = Literal["normal", "uniform", "prior"]


class MarkovChain(Sampler):
    """What the chains share: where they start.

    normal: N(0, spread^2 I); uniform: on [-spread, spread]; prior: the model's.
    """

    def begin(self, start: str, spread: float) -> None:
        """Check and keep the start."""
        if start not in ("normal", "uniform", "prior") or not spread > 0:
            raise ValueError(
                f"sampler.start is {start}, spread {spread}: choose normal, uniform or prior, and a spread above 0"
            )
        self.start_law, self.spread = start, float(spread)

    def start(self, model: ScoreModel, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """x at the beginning of the chains, `shape` = (B, ...)."""
        if self.start_law == "prior":
            return model.prior(shape, generator)
        device = generator.device if generator is not None else None
        if self.start_law == "normal":
            return self.spread * torch.randn(shape, generator=generator, device=device)
        return self.spread * (2 * torch.rand(shape, generator=generator, device=device) - 1)

    def log_start(self, x: Tensor) -> Tensor:
        """log density of the start at x (B, ...) up to a constant, (B,): -inf outside of a uniform one."""
        rows = x.flatten(1)
        if self.start_law == "normal":
            return -0.5 * rows.square().sum(1) / self.spread**2
        inside = (rows.abs() <= self.spread).all(1)
        return torch.where(inside, 0.0, -math.inf).to(x.dtype)

    def check(self, model: ScoreModel) -> None:
        """Refuse the prior of a model of clean data, where it has none of its own: it is a point."""
        super().check(model)
        own = type(model).prior is not ScoreModel.prior
        if self.start_law == "prior" and model.process.prior_sigma == 0 and not own:
            raise ValueError("sampler.start is prior, and a model of clean data has none: choose normal or uniform")


def at_least_one(name: str, **values: float) -> None:
    """Raise ValueError unless every value is a whole number from 1 on."""
    for key, value in values.items():
        if value < 1:
            raise ValueError(f"{name} needs {key} >= 1, got {value}")


def warm(name: str, temperature: float) -> None:
    """Raise ValueError unless the temperature is above 0."""
    if not temperature > 0:
        raise ValueError(f"{name} needs temperature > 0 (1: the model's own density), got {temperature}")


class Langevin(MarkovChain):
    """Unadjusted Langevin at one time t of the process, by default the data's own density.

    convention `eta` is x + eta s + sqrt(2 eta) z, `epsilon` is x + (eps / 2) s + sqrt(eps) z with eps = 2 eta, as in
    Song's papers. At noise level sigma(t) the chain reaches the noised density; `denoise` takes the noise out once, by
    Tweedie's formula. At a `temperature` T the noise is sqrt(T) times as long, and the chain's law is p^(1/T).
    Roberts & Tweedie (1996), https://doi.org/10.2307/3318418
    """

    def __init__(
        self,
        steps: int = 1000,
        step_size: float = 1e-3,
        convention: Literal["eta", "epsilon"] = "eta",
        t: float = 0.0,
        denoise: bool = False,
        start: Start = "normal",
        spread: float = 1.0,
        temperature: float = 1.0,
    ) -> None:
        at_least_one("Langevin", steps=steps)
        warm("Langevin", temperature)
        if not step_size > 0 or convention not in ("eta", "epsilon") or not 0 <= t <= 1:
            raise ValueError(
                f"Langevin needs step_size > 0, convention eta or epsilon, 0 <= t <= 1, "
                f"got {step_size}, {convention}, {t}"
            )
        self.begin(start, spread)
        self.steps, self.step_size, self.convention, self.t, self.denoise = steps, step_size, convention, t, denoise
        self.temperature = temperature

    def check(self, model: ScoreModel) -> None:
        """Refuse to denoise what has no noise, and a time at which a noised model has lost noise and score."""
        super().check(model)
        now, last = model.process.sigma(torch.tensor([self.t, 1.0], dtype=torch.float64)).tolist()
        if now == 0 and last > 0:
            name = type(model.process).__name__
            raise ValueError(f"sampler.t is {self.t}, where {name} has no noise: give a time above 0, as 1e-3")
        if self.denoise and now == 0:
            raise ValueError("sampler.denoise is true, but the model is one of data without noise: write false")

    def plan(self, process: Process) -> list[Transition]:
        """The factors of the score and of fresh noise, the same at every step."""
        eta = self.step_size if self.convention == "eta" else self.step_size / 2
        move = Transition(self.t, self.t, (eta, math.sqrt(2 * eta * self.temperature)))
        return [move] * self.steps + [Denoising(self.t, self.t)] * self.denoise

    def step(
        self, model: ScoreModel, x: Tensor, transition: Transition, carry: None, generator: torch.Generator | None
    ) -> tuple[Tensor, None]:
        """One Langevin step, (B, ...)."""
        drift, noise = transition.coefficients
        return x + drift * model.score(x, instant(transition.t, x)) + noise * noise_like(x, generator), None


def metropolis(
    here: tuple[Tensor, Tensor, Tensor],
    there: tuple[Tensor, Tensor, Tensor],
    log_ratio: Tensor,
    share: Tensor,
    n: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, tuple]:
    """Place, energy and score of each chain where it goes: `there` with probability min(1, e^log_ratio), else `here`.

    The carry is (energy, score, share of proposals taken, (B,), how many). Metropolis et al. (1953); Hastings (1970)
    """
    (x, energy, score), (proposal, new_energy, new_score) = here, there
    u = torch.rand(len(x), generator=generator, device=x.device, dtype=log_ratio.dtype)
    accept = u.log() < log_ratio  # a proposal that is not finite is not taken
    wide = accept.reshape(-1, *[1] * (x.ndim - 1))
    share = share + (accept.to(share.dtype) - share) / (n + 1)
    energy = torch.where(accept, new_energy, energy)
    return torch.where(wide, proposal, x), (energy, torch.where(wide, new_score, score), share, n + 1)


class MALA(MarkovChain):
    """Langevin proposals x' = x + eta s(x) + sqrt(2 eta T) z, accepted with min(1, p(x') q(x|x') / p(x) q(x'|x)).

    With probability `jump` a chain proposes a place of its start's law instead, accepted with min(1, p(x') q(x) / p(x)
    q(x')): in few dimensions it finds every mode so, however far apart they lie. A mixture of two kernels that both
    leave exp(-E / T), T the temperature, exactly invariant for any step does so, too. The carry is (energy, score,
    share of accepted proposals so far, (B,), steps); all of it stays on the device.
    Roberts & Tweedie (1996), https://doi.org/10.2307/3318418; Tierney (1994), https://doi.org/10.1214/aos/1176325750
    """

    model_type = EnergyModel
    optimal_acceptance = 0.574  # share of proposals, in many dimensions: Roberts & Rosenthal (1998)

    def __init__(
        self,
        steps: int = 1000,
        step_size: float = 1e-2,
        start: Start = "normal",
        spread: float = 1.0,
        temperature: float = 1.0,
        jump: float = 0.0,
    ) -> None:
        at_least_one("MALA", steps=steps)
        warm("MALA", temperature)
        if not step_size > 0 or not 0 <= jump < 1:
            raise ValueError(f"MALA needs step_size > 0 and 0 <= jump < 1, got {step_size}, {jump}")
        if jump and start == "prior":
            raise ValueError("MALA jumps to places of its start's law: choose start normal or uniform, or jump 0")
        self.begin(start, spread)
        self.steps, self.step_size, self.temperature, self.jump = steps, step_size, temperature, jump

    def plan(self, process: Process) -> list[Transition]:
        """eta and sqrt(2 eta T); the first step also looks at where it stands."""
        first, move = (self.proposal(self.step_size, evaluations) for evaluations in (2, 1))
        return [first] + [move] * (self.steps - 1)

    def proposal(self, step_size: float, evaluations: int = 1) -> Transition:
        """One step of this size."""
        return Transition(0.0, 0.0, (step_size, math.sqrt(2 * step_size * self.temperature)), evaluations)

    def step(
        self, model: EnergyModel, x: Tensor, transition: Transition, carry: tuple, generator: torch.Generator | None
    ) -> tuple[Tensor, tuple]:
        """One proposal, taken or not, for each chain, (B, ...)."""
        eta, spread = transition.coefficients
        # Half precision would lose the differences of energies that the test is made of.
        with torch.autocast(x.device.type, enabled=False):
            energy, score, share, n = carry or (*model.energy_and_score(x), torch.zeros(len(x), device=x.device), 0)
            z = noise_like(x, generator)
            proposal = x + eta * score + spread * z
            if self.jump:
                far = torch.rand(len(x), generator=generator, device=x.device) < self.jump
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

    def __init__(
        self,
        levels: int | None = None,
        steps_each: int = 5,
        step_rule: Literal["v1", "v1_code", "technique4"] = "technique4",
        epsilon: float | None = None,
        denoise: bool = True,
        start: Start = "prior",
        spread: float = 1.0,
    ) -> None:
        at_least_one("AnnealedLangevin", levels=1 if levels is None else levels, steps_each=steps_each)
        if step_rule not in ("v1", "v1_code", "technique4"):
            raise ValueError(f"AnnealedLangevin needs step_rule v1, v1_code or technique4, got {step_rule}")
        if (epsilon is None and step_rule != "technique4") or (epsilon is not None and not epsilon > 0):
            raise ValueError(f"sampler.epsilon is {epsilon}: give a number above 0 (NCSN: 2e-5), or take technique4")
        self.begin(start, spread)
        self.levels, self.steps_each, self.step_rule = levels, steps_each, step_rule
        self.epsilon, self.denoise = epsilon, denoise

    def check(self, model: ScoreModel) -> None:
        """Refuse a process that scales the data, or has no smallest level."""
        super().check(model)
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
        if float(model.process.alpha(ends[1])) != 1 or float(model.process.variance(ends[0])) == 0:
            raise TypeError(
                f"sampler AnnealedLangevin needs levels sigma_1 > ... > sigma_L > 0 of a VE that starts at sigma_min, "
                f"got {type(model.process).__name__}: choose predictor_corrector"
            )

    def plan(self, process: Process) -> list[Transition]:
        """Each level's time and its factors of score and noise."""
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

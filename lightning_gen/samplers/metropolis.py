"""Markov chains whose proposals pass a Metropolis test, so that the density is exactly invariant; MALA."""

import math
from abc import abstractmethod
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_gen.models import SmoothEnergy
from lightning_gen.options import Count, Positive, Rate
from lightning_gen.randomness import Source, noise_like, uniform
from lightning_gen.samplers.base import Transition
from lightning_gen.samplers.mcmc import MarkovChain, Start


class MetropolisState(NamedTuple):
    """The carry of a chain with a Metropolis test, on the device.

    Args:
        energy: E(x), nats, (B,).
        score: -grad E(x), (B, ...).
        acceptance: acceptance rate so far, (B,).
        proposals: number of proposals so far.
    """

    energy: Tensor
    score: Tensor
    acceptance: Tensor
    proposals: int


class Metropolis(MarkovChain):
    """Base of the chains that accept a proposal with probability min(1, e^log_ratio): exp(-E / T) is invariant.

    Metropolis et al. (1953), https://doi.org/10.1063/1.1699114; Hastings (1970), https://doi.org/10.1093/biomet/57.1.97
    """

    needs = (SmoothEnergy,)
    supports = ("real",)
    independent = True
    optimal_acceptance: float  # acceptance rate in many dimensions

    @abstractmethod
    def proposal(self, step_size: float) -> Transition:
        """A proposal of this step size."""

    @abstractmethod
    def propose(
        self, model: SmoothEnergy, x: Tensor, transition: Transition, state: MetropolisState, generator: Source
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x', (B, ...), its energy and score, and log_ratio = log p(x') q(x|x') / p(x) q(x'|x), (B,)."""

    def plan(self, model: SmoothEnergy, shape: tuple[int, ...]) -> list[Transition]:
        """Proposals of the step size; the first also evaluates the model at the start."""
        move = self.proposal(self.step_size)
        return [replace(move, evaluations=move.evaluations + 1)] + [move] * (self.steps - 1)

    def step(
        self, model: SmoothEnergy, x: Tensor, transition: Transition, carry: tuple | None, generator: Source
    ) -> tuple[Tensor, MetropolisState]:
        """x after one proposal and its Metropolis test in each chain, (B, ...), and the carry."""
        # In half precision the energy differences of the test would lose their digits.
        with torch.autocast(x.device.type, enabled=False):
            carry = carry or (*model.energy_and_score(x), torch.zeros(len(x), device=x.device), 0)
            state = MetropolisState(*carry)
            proposal, energy, score, log_ratio = self.propose(model, x, transition, state, generator)
        u = uniform((len(x),), generator, x.device, log_ratio.dtype)
        accept = u.log() < log_ratio  # false for a proposal that is not finite
        wide = accept.reshape(-1, *[1] * (x.ndim - 1))
        count = state.proposals + 1
        return torch.where(wide, proposal, x), MetropolisState(
            torch.where(accept, energy, state.energy),
            torch.where(wide, score, state.score),
            state.acceptance + (accept.to(state.acceptance.dtype) - state.acceptance) / count,
            count,
        )

    def acceptance(self, carry: MetropolisState) -> Tensor:
        """Acceptance rate of each chain so far, (B,)."""
        return carry.acceptance


class MALA(Metropolis):
    """Langevin proposals x' = x + eta s(x) + sqrt(2 eta T) z, accepted with min(1, p(x') q(x|x') / p(x) q(x'|x)).

    p = exp(-E / T) is exactly invariant for any step size, and so for the mixture with independent proposals from the
    start q, accepted with min(1, p(x') q(x) / p(x) q(x')).
    Roberts & Tweedie (1996), https://doi.org/10.2307/3318418; Tierney (1994), https://doi.org/10.1214/aos/1176325750

    Args:
        steps: number of proposals, >= 1.
        step_size: eta, in squared units of the data, > 0.
        start, spread: those of MarkovChain.
        temperature: T, > 0.
        jump: probability of an independent proposal from the start, in [0, 1): in few dimensions it reaches every mode.
    """

    optimal_acceptance = 0.574  # Roberts & Rosenthal (1998)

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
                f"MALA.jump is {jump} and start is prior, whose density is not known: choose start normal or uniform, "
                "or jump 0"
            )
        super().__init__(start, spread)
        self.steps, self.step_size, self.temperature, self.jump = steps, step_size, temperature, jump

    def proposal(self, step_size: float) -> Transition:
        """A proposal with coefficients eta and sqrt(2 eta T)."""
        return Transition(0.0, 0.0, (step_size, math.sqrt(2 * step_size * self.temperature)))

    def propose(
        self, model: SmoothEnergy, x: Tensor, transition: Transition, state: MetropolisState, generator: Source
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x' by a Langevin step or a jump, (B, ...), its energy and score, and log_ratio, (B,)."""
        eta, spread = transition.coefficients
        z = noise_like(x, generator)
        proposal = x + eta * state.score + spread * z
        if self.jump:
            jumps = uniform((len(x),), generator, x.device) < self.jump
            start = self.start(model, tuple(x.shape), generator).to(x)
            proposal = torch.where(jumps.reshape(-1, *[1] * (x.ndim - 1)), start, proposal)
        energy, score = model.energy_and_score(proposal)
        reverse = (x - proposal - eta * score).flatten(1).square().sum(1) / (2 * spread**2)
        log_q = 0.5 * z.flatten(1).square().sum(1) - reverse
        if self.jump:
            log_q = torch.where(jumps, self.log_start(x) - self.log_start(proposal), log_q)
        return proposal, energy, score, (state.energy - energy) / self.temperature + log_q

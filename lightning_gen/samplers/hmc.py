"""Hamiltonian Monte Carlo: proposals by Hamiltonian dynamics of the energy, with a Metropolis test."""

import torch
from torch import Tensor

from lightning_gen.models import SmoothEnergy
from lightning_gen.options import Count, Positive
from lightning_gen.randomness import Source
from lightning_gen.samplers.base import Transition, noise_like
from lightning_gen.samplers.mcmc import MarkovChain, Start, metropolis


class HMC(MarkovChain):
    """`leapfrogs` steps of size `step_size` of x' = p, p' = -grad E(x) / T from p ~ N(0, I), then Metropolis' test.

    exp(-E / T) is exactly invariant for any step size. The carry is (energy (B,), score (B, ...), acceptance rate so
    far (B,), number of proposals), on the device.
    MCMC using Hamiltonian dynamics (Neal, 2011, section 3), https://arxiv.org/abs/1206.1901

    Args:
        steps: number of proposals, >= 1.
        step_size: size of a leapfrog step, in units of x, > 0.
        leapfrogs: leapfrog steps in a proposal, >= 1.
        start: distribution of the start: normal, uniform or the model's prior.
        spread: scale of a normal or uniform start, in units of the data, > 0.
        temperature: T, > 0.
    """

    needs = (SmoothEnergy,)
    supports = ("real",)
    by_row = True
    optimal_acceptance = 0.651  # acceptance rate in many dimensions: Beskos et al. (2013)

    def __init__(
        self,
        steps: Count = 100,
        step_size: Positive = 0.1,
        leapfrogs: Count = 10,
        start: Start = "normal",
        spread: Positive = 1.0,
        temperature: Positive = 1.0,
    ) -> None:
        super().__init__(start, spread)
        self.steps, self.step_size, self.leapfrogs, self.temperature = steps, step_size, leapfrogs, temperature

    def plan(self, model: SmoothEnergy, shape: tuple[int, ...]) -> list[Transition]:
        """Proposals with step size and temperature; the first also evaluates the model at the start."""
        first, move = (self.proposal(self.step_size, self.leapfrogs + more) for more in (1, 0))
        return [first] + [move] * (self.steps - 1)

    def proposal(self, step_size: float, evaluations: int | None = None) -> Transition:
        """A proposal of `leapfrogs` steps of this size."""
        count = self.leapfrogs if evaluations is None else evaluations
        return Transition(0.0, 0.0, (step_size, self.temperature), count)

    def step(
        self, model: SmoothEnergy, x: Tensor, transition: Transition, carry: tuple, generator: Source
    ) -> tuple[Tensor, tuple]:
        """x after one proposal and its Metropolis test in each chain, (B, ...), and the carry."""
        size, temperature = transition.coefficients
        # In half precision the energy differences of the test would lose their digits.
        with torch.autocast(x.device.type, enabled=False):
            energy, score, rate, n = carry or (*model.energy_and_score(x), torch.zeros(len(x), device=x.device), 0)
            momentum = noise_like(x, generator)
            kinetic = 0.5 * momentum.flatten(1).square().sum(1)
            proposal, momentum = x, momentum + 0.5 * size / temperature * score
            for i in range(self.leapfrogs):
                proposal = proposal + size * momentum
                new_energy, new_score = model.energy_and_score(proposal)
                momentum = momentum + (0.5 if i == self.leapfrogs - 1 else 1.0) * size / temperature * new_score
            new_kinetic = 0.5 * momentum.flatten(1).square().sum(1)
            log_ratio = (energy - new_energy) / temperature + kinetic - new_kinetic
        return metropolis((x, energy, score), (proposal, new_energy, new_score), log_ratio, rate, n, generator)

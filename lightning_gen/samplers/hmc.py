"""Hamiltonian Monte Carlo: long proposals along the energy's own dynamics, accepted or not."""

import torch
from torch import Tensor

from lightning_gen.models import SmoothEnergy
from lightning_gen.options import Count, Positive
from lightning_gen.randomness import Source
from lightning_gen.samplers.base import Transition, noise_like
from lightning_gen.samplers.mcmc import MarkovChain, Start, metropolis


class HMC(MarkovChain):
    """`leapfrogs` steps of size `step_size` of x' = p, p' = -grad E(x) / T from p ~ N(0, I), then Metropolis' test.

    The density exp(-E / T), T the temperature, is left exactly invariant for any step. The carry is (energy, score,
    share of accepted proposals so far, (B,), proposals); all of it stays on the device.
    MCMC using Hamiltonian dynamics (Neal, 2011), https://arxiv.org/abs/1206.1901, section 3
    """

    needs = (SmoothEnergy,)
    supports = ("real",)
    by_row = True
    optimal_acceptance = 0.651  # share of proposals, in many dimensions: Beskos et al. (2013)

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
        """The step and the temperature; the first proposal also looks at where it stands."""
        first, move = (self.proposal(self.step_size, self.leapfrogs + more) for more in (1, 0))
        return [first] + [move] * (self.steps - 1)

    def proposal(self, step_size: float, evaluations: int | None = None) -> Transition:
        """`leapfrogs` steps of this size."""
        count = self.leapfrogs if evaluations is None else evaluations
        return Transition(0.0, 0.0, (step_size, self.temperature), count)

    def step(
        self, model: SmoothEnergy, x: Tensor, transition: Transition, carry: tuple, generator: Source
    ) -> tuple[Tensor, tuple]:
        """One proposal, taken or not, for each chain, (B, ...)."""
        size, temperature = transition.coefficients
        # Half precision would lose the differences of energies that the test is made of.
        with torch.autocast(x.device.type, enabled=False):
            energy, score, share, n = carry or (*model.energy_and_score(x), torch.zeros(len(x), device=x.device), 0)
            momentum = noise_like(x, generator)
            kinetic = 0.5 * momentum.flatten(1).square().sum(1)
            place, momentum = x, momentum + 0.5 * size / temperature * score
            for i in range(self.leapfrogs):
                place = place + size * momentum
                new_energy, new_score = model.energy_and_score(place)
                momentum = momentum + (0.5 if i == self.leapfrogs - 1 else 1.0) * size / temperature * new_score
            new_kinetic = 0.5 * momentum.flatten(1).square().sum(1)
            log_ratio = (energy - new_energy) / temperature + kinetic - new_kinetic
        return metropolis((x, energy, score), (place, new_energy, new_score), log_ratio, share, n, generator)

"""Hamiltonian Monte Carlo: proposals by Hamiltonian dynamics of the energy, with a Metropolis test."""

from torch import Tensor

from lightning_gen.models import SmoothEnergy
from lightning_gen.options import Count, Positive
from lightning_gen.randomness import Source, noise_like
from lightning_gen.samplers.base import Transition
from lightning_gen.samplers.mcmc import Start
from lightning_gen.samplers.metropolis import Metropolis, MetropolisState


class HMC(Metropolis):
    """`leapfrogs` steps of size `step_size` of x' = p, p' = -grad E(x) / T from p ~ N(0, I), then Metropolis' test.

    exp(-E / T) is exactly invariant for any step size.
    MCMC using Hamiltonian dynamics (Neal, 2011, section 3), https://arxiv.org/abs/1206.1901

    Args:
        steps: number of proposals, >= 1.
        step_size: size of a leapfrog step, in units of x, > 0.
        leapfrogs: leapfrog steps in a proposal, >= 1.
        start, spread: those of MarkovChain.
        temperature: T, > 0.
    """

    optimal_acceptance = 0.651  # Beskos et al. (2013)

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

    def proposal(self, step_size: float) -> Transition:
        """A proposal with coefficients step size and T."""
        return Transition(0.0, 0.0, (step_size, self.temperature), self.leapfrogs)

    def propose(
        self, model: SmoothEnergy, x: Tensor, transition: Transition, state: MetropolisState, generator: Source
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x' after the leapfrog steps, (B, ...), its energy and score, and log_ratio, (B,)."""
        size, temperature = transition.coefficients
        momentum = noise_like(x, generator)
        kinetic = 0.5 * momentum.flatten(1).square().sum(1)
        proposal, momentum = x, momentum + 0.5 * size / temperature * state.score
        for i in range(self.leapfrogs):
            proposal = proposal + size * momentum
            energy, score = model.energy_and_score(proposal)
            momentum = momentum + (0.5 if i == self.leapfrogs - 1 else 1.0) * size / temperature * score
        new_kinetic = 0.5 * momentum.flatten(1).square().sum(1)
        return proposal, energy, score, (state.energy - energy) / temperature + kinetic - new_kinetic

"""log p(x) of decoders by annealed importance sampling over z, from both sides.

p_beta(z) is proportional to p(z) p(x|z)^beta, whose constant is 1 at beta = 0 and p(x) at 1. The constant is p(x)
itself, so that forward AIS is a lower bound of log p(x) in expectation; of an energy, whose constant is subtracted, it
is an upper one. Reverse AIS is an upper bound where it starts at exact samples of p(z|x): simulated data have one,
the z that they were made of (bidirectional Monte Carlo).
On the quantitative analysis of decoder-based generative models (Wu et al., 2017), https://arxiv.org/abs/1611.04273;
Sandwiching the marginal likelihood using bidirectional Monte Carlo (Grosse et al., 2015),
https://arxiv.org/abs/1511.02543
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from lightning_gen.likelihood.ais import log_weights, temperatures
from lightning_gen.likelihood.importance import bounds
from lightning_gen.likelihood.paths import EnergyPath
from lightning_gen.likelihood.tuning import PILOT_BURN_IN, tuned_steps
from lightning_gen.models import ObservationModel, Requires, SmoothEnergy
from lightning_gen.options import Checked, Count
from lightning_gen.process import Clean
from lightning_gen.samplers import HMC, MALA


class Posterior(SmoothEnergy):
    """E(z) = -log p(x|z) - log N(z; 0, I): p(z|x) of a decoder, with Z = p(x).

    Args:
        model: the decoder.
        x: data, (B, ...), one for each z.
    """

    def __init__(self, model: ObservationModel, x: Tensor) -> None:
        super().__init__(Clean())
        self.model, self.x = model, x

    def networks(self) -> list[nn.Module]:
        """Those of the decoder."""
        return self.model.networks()

    def energy(self, z: Tensor) -> Tensor:
        """E(z), nats, (B,), for z (B, L)."""
        prior = 0.5 * z.square().sum(1) + 0.5 * z.shape[1] * math.log(2 * math.pi)
        return prior - self.model.log_conditional(self.x, z)


class Annealed(NamedTuple):
    """Of each x: log p(x), nats, its standard error by independent chains, and their effective number; all (B,)."""

    nats: Tensor
    error: Tensor
    ess: Tensor


class DecoderAIS(Checked, Requires):
    """log p(x) = log mean w forward, -log mean w in reverse, w the weights of `chains` chains of z for each x.

    Wu et al. (2017), https://arxiv.org/abs/1611.04273

    Args:
        chains: of each x, >= 1.
        schedule: inverse temperatures, as of `temperatures`.
        transition: MALA or HMC, one proposal per inverse temperature; null for HMC with 10 leapfrog steps.
        tune: whether a pilot run with one chain for each x finds the step size for each inverse temperature.
    """

    role = "likelihood"
    needs = (ObservationModel,)

    def __init__(
        self,
        chains: Count = 16,
        schedule: Literal["salakhutdinov"] | Count = 1000,
        transition: MALA | HMC | None = None,
        tune: bool = True,
    ) -> None:
        self.chains, self.betas, self.schedule, self.tune = chains, temperatures(schedule), schedule, tune
        self.transition = HMC(1, 0.1, 10) if transition is None else transition
        if self.transition.temperature != 1:
            raise ValueError(
                f"transition.temperature is {self.transition.temperature}, and a likelihood is that of temperature 1: "
                "write 1"
            )

    def ticks(self, estimates: int) -> int:
        """Number of calls of `progress` by a path and so many estimates."""
        steps = len(self.betas) - 1
        return steps * estimates + (steps - 1 + PILOT_BURN_IN if self.tune and steps > 1 else 0)

    def path(
        self,
        model: ObservationModel,
        x: Tensor,
        generator: torch.Generator,
        progress: Callable[[], Any] | None = None,
    ) -> EnergyPath:
        """The path of the chains of x (B, ...), tuned; row i chains + c is chain c of x_i."""
        self.check(model)
        mean, sizes = x.new_zeros(model.latent), {}
        if self.tune and len(self.betas) > 2:
            pilot = EnergyPath(Posterior(model, x), mean, torch.ones_like(mean), self.transition)
            sizes = tuned_steps(pilot, self.betas, len(x), generator, progress)
        rows = x.repeat_interleave(self.chains, 0)
        if model.label is not None:
            model = model.with_label(model.label.repeat_interleave(self.chains, 0))
        path = EnergyPath(Posterior(model, rows), mean, torch.ones_like(mean), self.transition)
        if sizes:
            path.tune(sizes)
        return path

    def estimate(
        self,
        path: EnergyPath,
        generator: torch.Generator,
        z: Tensor | None = None,
        progress: Callable[[], Any] | None = None,
    ) -> Annealed:
        """log p(x) of each x of the path, forward from the prior, or in reverse from z, (B chains, L)."""
        reverse = z is not None
        if z is None:
            z = path.start(len(path.tempered.model.x), generator)
        log_w = log_weights(path, self.betas, z, generator, reverse, progress).view(-1, self.chains)
        log_w = log_w - path.log_z0 if reverse else log_w + path.log_z0
        mean = bounds(log_w)
        one = torch.full_like(mean.iwae, math.nan)  # chain alone shows no error
        error = (log_w - mean.iwae[:, None]).exp().std(1) / self.chains**0.5 if self.chains > 1 else one
        return Annealed(-mean.iwae if reverse else mean.iwae, error, mean.ess)

"""What the missing values of x may be: draws of p(missing | known), exact, by a chain, or approximate."""

from typing import Literal

import torch
from torch import Tensor

from lightning_gen.models import (
    Autoregressive,
    Conditionals,
    Encoded,
    Energy,
    LatentVariables,
    Scored,
    SmoothEnergy,
)
from lightning_gen.options import Count, Positive
from lightning_gen.questions.base import Answer
from lightning_gen.questions.conditioned import (
    Clamped,
    ClampedScore,
    LatentEnergy,
    OneLevelLangevin,
    conditional,
    metropolis,
    start_of,
)
from lightning_gen.randomness import noise_like, uniform
from lightning_gen.samplers import HMC, MALA, Ancestral


class Prefix(Answer):
    """x_i ~ p(x_i | x_<i) for the missing values, in the model's order, after the known ones: exact.

    The known values are the first of the order: the upper rows of an image.
    Pixel recurrent neural networks (van den Oord et al., 2016), https://arxiv.org/abs/1601.06759
    """

    name = "prefix"
    needs = (Autoregressive,)
    supports = ("binary", "levels")

    def check(self, model: Autoregressive) -> None:
        """ValueError for a model of several orderings, none of which is that of the mask."""
        super().check(model)
        if model.net.orderings > 1:
            raise ValueError(f"the known values come first in one ordering, and the model has {model.net.orderings}")

    def __call__(self, model: Autoregressive, x: Tensor, known: Tensor, generator: torch.Generator) -> Tensor:
        """x with its missing values drawn, (B, ...); ValueError for a mask that is no prefix."""
        joint, size = model.net.joint, x[0].numel()
        order = [site * joint + channel for site in model.net.order(0) for channel in range(joint)]
        flags = known.flatten(1)[:, [model.position(value) for value in order]]
        if (flags[:, 1:] & ~flags[:, :-1]).any():
            raise ValueError(
                "mask has missing values before known ones in the model's order, expected the known ones first, as the "
                "upper rows of an image: change it, or ask by=SiteGibbs()"
            )
        x = torch.where(known, x, 0)
        groups, start = model.begin(x, generator), x
        for i in range(size):
            x = torch.where(known, start, model.fill(groups, x, i, generator))
        return x


class BlockGibbs(Answer):
    """h ~ p(h|v), then v ~ p(v|h), and the known values again: p(missing, h | known) is left exactly invariant.

    Args:
        steps: number of sweeps, >= 1.
    """

    name = "Gibbs"
    needs = (Conditionals,)

    def __init__(self, steps: Count = 500) -> None:
        self.steps = steps

    def __call__(self, model: Conditionals, x: Tensor, known: Tensor, generator: torch.Generator) -> Tensor:
        """x with its missing values at the end of a chain, (B, ...)."""
        v = torch.where(known, x, model.prior(tuple(x.shape), generator).to(x))
        for _ in range(self.steps):
            v = torch.where(known, x, model.sample_visible(model.sample_hidden(v, generator), generator))
        return v


class SiteGibbs(Answer):
    """x_i ~ p(x_i | all others), proportional to exp(-E), of each missing value in turn: exactly invariant.

    A sweep costs K evaluations of E for each missing value, K the number of levels; of a mixture, those of one
    component, which is drawn anew for each sweep.
    Stochastic relaxation (Geman & Geman, 1984), https://doi.org/10.1109/TPAMI.1984.4767596

    Args:
        steps: number of sweeps, >= 1.
    """

    name = "Gibbs of single values"
    needs = (Energy,)
    supports = ("binary", "levels")

    def __init__(self, steps: Count = 50) -> None:
        self.steps = steps

    def __call__(self, model: Energy, x: Tensor, known: Tensor, generator: torch.Generator) -> Tensor:
        """x with its missing values at the end of a chain, (B, ...)."""
        count, free = model.support.levels, ~known.flatten(1)
        random = (count * uniform(x.shape, generator, x.device, x.dtype)).floor()
        x = torch.where(known, x, random).flatten(1)
        for _ in range(self.steps):
            part = model.component(x.view(known.shape), generator)
            for i in free.any(0).nonzero()[:, 0].tolist():
                log_p, values = conditional(part, x, i, known.shape)
                drawn = values[torch.multinomial(log_p.softmax(1), 1, generator=generator)[:, 0]]
                x[:, i] = torch.where(free[:, i], drawn, x[:, i])
        return x.view(known.shape)


class ClampedMetropolis(Answer):
    """Langevin proposals with a Metropolis test for the missing values: p(missing | known) is left exactly invariant.

    Args:
        sampler: MALA or HMC; null for 1,000 steps of MALA.
        tune: whether the first half of the chain finds the step size.
    """

    name = "MALA"
    needs = (SmoothEnergy,)
    supports = ("real",)

    def __init__(self, sampler: MALA | HMC | None = None, tune: bool = True) -> None:
        self.sampler, self.tune = MALA(1000, 1e-2) if sampler is None else sampler, tune

    def __call__(self, model: SmoothEnergy, x: Tensor, known: Tensor, generator: torch.Generator) -> Tensor:
        """x with its missing values at the end of a chain, (B, ...)."""
        start = torch.where(known, x, start_of(model, self.sampler, x, generator))
        end = metropolis(self.sampler, Clamped(model, x, known), start, generator, self.tune)
        return torch.where(known, x, end)


class ClampedLangevin(OneLevelLangevin):
    """Langevin steps of the missing values, by the score with the known ones held fixed."""

    def __call__(self, model: Scored, x: Tensor, known: Tensor, generator: torch.Generator) -> Tensor:
        """x with its missing values at the end of a chain, (B, ...)."""
        start = torch.where(known, x, self.sampler.start(model, tuple(x.shape), generator).to(x))
        return torch.where(known, x, self.sampler(ClampedScore(model, x, known), start, generator))


class MetropolisWithinGibbs(Answer):
    """z' ~ q(z|x), accepted with min(1, w(x, z') / w(x, z)); then the missing values ~ p(x|z): exactly invariant.

    w = p(x|z) p(z) / q(z|x). Without the test it is Rezende et al.'s (2014) chain, which is approximate.
    Leveraging the exact likelihood of deep latent variable models (Mattei & Frellsen, 2018), algorithm 2,
    https://arxiv.org/abs/1802.04826

    Args:
        steps: of the chain, >= 1.
    """

    name = "Metropolis within Gibbs"
    needs = (Encoded,)

    def __init__(self, steps: Count = 500) -> None:
        self.steps = steps

    def __call__(self, model: Encoded, x: Tensor, known: Tensor, generator: torch.Generator) -> Tensor:
        """x with its missing values at the end of a chain, (B, ...)."""
        z = noise_like(x.new_empty(len(x), model.latent), generator)
        v = torch.where(known, x, model.sample_visible(z, generator))
        for _ in range(self.steps):
            mean, log_variance = model.posterior(v)
            other = model.sample_posterior(mean, log_variance, generator)
            ratio = model.log_weight(v, mean, log_variance, other) - model.log_weight(v, mean, log_variance, z)
            accepted = uniform((len(x),), generator, x.device, x.dtype).log() < ratio
            z = torch.where(accepted[:, None], other, z)
            v = torch.where(known, x, model.sample_visible(z, generator))
        return v


class RePaint(Answer):
    """Ancestral steps in which the known values are those of the data with the noise of the time: approximate.

    Each step from t to s is taken `resamplings` times, between them x_t ~ p(x_t | x_s), so that the drawn values come
    to agree with the known ones. RePaint (Lugmayr et al., 2022, algorithm 1), https://arxiv.org/abs/2201.09865

    Args:
        steps: of the reverse diffusion, at most the T of a discrete process.
        resamplings: of each step, >= 1.
        variance: that of Ancestral.
    """

    name = "RePaint"
    needs = (Scored,)
    supports = ("real",)

    def __init__(
        self, steps: Count = 100, resamplings: Count = 10, variance: Literal["small", "large"] = "large"
    ) -> None:
        self.steps, self.resamplings, self.variance = steps, resamplings, variance

    def sampler(self, model: Scored) -> Ancestral:
        """The steps for this model."""
        return Ancestral(self.variance, min(self.steps, model.process.steps or self.steps))

    def check(self, model: Scored) -> None:
        """TypeError for a process whose noise does not grow."""
        super().check(model)
        self.sampler(model).check(model)

    def __call__(self, model: Scored, x: Tensor, known: Tensor, generator: torch.Generator) -> Tensor:
        """x with its missing values drawn, (B, ...)."""
        sampler = self.sampler(model)
        now = model.prior(tuple(x.shape), generator).to(x)
        rows = sampler.moments(model.process)
        for transition, (_, _, (_, _, alpha, sigma, ratio, fresh)) in zip(
            sampler.plan(model, tuple(x.shape)), rows, strict=True
        ):
            for repeat in range(self.resamplings if sigma > 0 else 1):
                if repeat:
                    now = ratio * now + fresh**0.5 * noise_like(x, generator)
                now, _ = sampler.step(model, now, transition, None, generator)
                now = torch.where(known, alpha * x + sigma * noise_like(x, generator), now)
        return now


class LatentMetropolis(Answer):
    """z ~ p(z | known) for x = E[x|z] with noise of deviation sigma on the known values, by a chain over z.

    Exact for a generator under that noise. Samples are E[x|z] where values are missing.

    Args:
        sigma: standard deviation of the noise, in units of the data, > 0.
        sampler: MALA or HMC over z; null for 1,000 steps of MALA.
    """

    name = "MALA over z"
    needs = (LatentVariables,)
    supports = ("real",)

    def __init__(self, sigma: Positive = 0.1, sampler: MALA | HMC | None = None) -> None:
        self.sigma, self.sampler = sigma, MALA(1000, 1e-2) if sampler is None else sampler

    def __call__(self, model: LatentVariables, x: Tensor, known: Tensor, generator: torch.Generator) -> Tensor:
        """x with its missing values at the end of a chain, (B, ...)."""
        seen = torch.where(known, x, 0).flatten(1)
        energy = LatentEnergy(model, seen, lambda x: torch.where(known, x, 0).flatten(1), self.sigma)
        z = noise_like(x.new_empty(len(x), model.latent), generator)
        return torch.where(known, x, model.visible(metropolis(self.sampler, energy, z, generator)))


INPAINTERS = (
    Prefix(),
    BlockGibbs(),
    SiteGibbs(),
    ClampedMetropolis(),
    MetropolisWithinGibbs(),
    RePaint(),
    ClampedLangevin(),
    LatentMetropolis(),
)

"""Log-likelihoods of decoders (VAE, GAN) by annealed importance sampling, and its gap on simulated data."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_gen.callbacks.likelihood.observed import ObservedLikelihood
from lightning_gen.likelihood import DecoderAIS, dequantised
from lightning_gen.models import Encoded, has
from lightning_gen.options import Count
from lightning_gen.results.result import Name, Result
from lightning_gen.samplers import HMC, MALA


class DecoderAnnealedImportance(ObservedLikelihood):
    """ais/log_likelihood/forward, nats, of `n` samples of a split, by `chains` chains of z for each.

    A lower bound in expectation, since the constant is p(x) itself. With an encoder, ais/log_likelihood/reverse starts
    at its samples, moved by `burn` transitions: an estimate, no bound. Data simulated by the model, as many as are
    measured, have exact posterior samples: bdmc/log_p/forward and /reverse bound their mean log p from both sides, and
    bdmc/gap, the difference, is an upper bound on the error of both, there. Errors are standard errors over samples.
    Images that are not binarised are dequantised, and bits/dim stand beside the nats of model space.
    Wu et al. (2017), https://arxiv.org/abs/1611.04273; Grosse et al. (2015), https://arxiv.org/abs/1511.02543

    Args:
        chains, schedule, transition, tune: those of DecoderAIS.
        burn: transitions of an encoder's samples before reverse chains, >= 1.
        deviation, options: those of ObservedLikelihood.
    """

    what = "annealed chains"
    purpose = "ais"
    columns = 6

    def __init__(
        self,
        chains: Count = 16,
        schedule: Literal["salakhutdinov"] | Count = 1000,
        transition: MALA | HMC | None = None,
        tune: bool = True,
        burn: Count = 100,
        batch: Count = 100,
        **options: Any,
    ) -> None:
        super().__init__(batch=batch, **options)
        self.ais, self.burn = DecoderAIS(chains, schedule, transition, tune), burn

    def estimator(self) -> type[DecoderAIS]:
        """What has needs of its own."""
        return DecoderAIS

    def publishes(self, module: Any) -> set[Name]:
        which, sides = self.measured(module), ("forward", "reverse") if has(module.model, Encoded) else ("forward",)
        names = {Name(f"ais/{quantity}", None, which, side) for quantity in self.quantities(module) for side in sides}
        names |= {Name("bdmc/log_p", None, which, side) for side in ("forward", "reverse")}
        return names | {Name("bdmc/gap", None, which)}

    def work(self, module: Any) -> int:
        return self.ais.ticks(2 if has(module.model, Encoded) else 1) + self.ais.ticks(2)

    def block(self, module: Any, model: Any, x: Tensor, noise: torch.Generator, progress: Callable) -> Tensor:
        """Forward, its effective sample size and acceptance rate, reverse, and simulated data's two sides, (m, 6)."""
        encoder, model = model if has(model, Encoded) else None, self.observed(model)
        if self.spread(module):
            x = dequantised(x, module.value_range, noise)
        path = self.ais.path(model, x, noise, progress)
        forward = self.ais.estimate(path, noise, None, progress)
        acceptance, reverse = path.acceptance() or 0.0, torch.zeros_like(forward.nats)
        if encoder is not None:
            mean, log_variance = (part.repeat_interleave(self.ais.chains, 0) for part in encoder.posterior(x))
            z = path.burn_in(encoder.sample_posterior(mean, log_variance, noise), self.burn, noise)
            reverse = self.ais.estimate(path, noise, z, progress).nats
        x, z = model.simulate(len(x), noise)
        path = self.ais.path(model, x, noise, progress)
        sides = [self.ais.estimate(path, noise, start, progress).nats for start in (None, self.repeated(z))]
        rate = torch.full_like(forward.nats, acceptance)
        return torch.stack([forward.nats, forward.ess, rate, reverse, *sides], dim=1)

    def repeated(self, z: Tensor) -> Tensor:
        """z of each x for all of its chains, (m chains, L)."""
        return z.repeat_interleave(self.ais.chains, 0)

    def results(self, module: Any, rows: Tensor, n: int, fingerprint: str) -> list[Result]:
        which = self.measured(module)
        protocol = {
            **self.protocol(module, n, fingerprint),
            "chains": self.ais.chains,
            "temperatures": len(self.ais.betas) - 1,
            "schedule": str(self.ais.schedule),
            "transition": self.ais.transition.describe(),
            "tuned": self.ais.tune,
            "acceptance": rows[:, 2].mean().item(),
            "ess": rows[:, 1].mean().item(),
            "bounds": "in expectation over the chains",
        }
        results = self.both(module, rows[:, 0], "ais", "forward", "lower bound", protocol)
        if has(module.model, Encoded):
            started = {"started": f"after {self.burn} steps from the encoder's samples", "bounds": "nothing"}
            results += self.both(module, rows[:, 3], "ais", "reverse", "estimate", protocol | started)
        made = protocol | {"data": "simulated by the model", "split": "none", "dequantisation": "none"}
        made["started"] = "exact samples"
        for side, kind, values in (("forward", "lower bound", rows[:, 4]), ("reverse", "upper bound", rows[:, 5])):
            results.append(Result.of_mean(values, kind, "nats", made, Name("bdmc/log_p", None, which, side)))
        gap = rows[:, 5] - rows[:, 4]
        return [*results, Result.of_mean(gap, "upper bound", "nats", made, Name("bdmc/gap", None, which))]

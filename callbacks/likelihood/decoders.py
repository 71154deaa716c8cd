"""Log-likelihoods of decoders (VAE, GAN) by annealed importance sampling, and its gap on simulated data."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.callbacks.likelihood.base import PerSample
from lightning_gen.likelihood import DecoderAIS, bits_per_dim, dequantised, simulated
from lightning_gen.models import BINARY, Encoded, GaussianObservation, LatentVariables, has, why_unfit
from lightning_gen.options import Count, Positive
from lightning_gen.results.result import Name, Result
from lightning_gen.samplers import HMC, MALA


class DecoderAnnealedImportance(PerSample):
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
        deviation: s of p(x|z) = N(E[x|z], s^2 I), in units of x; null for the model's own, which a GAN has not.
        options: those of PerSample.
    """

    needs = (LatentVariables,)
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
        deviation: Positive | None = None,
        batch: Count = 100,
        **options: Any,
    ) -> None:
        super().__init__(batch=batch, **options)
        self.ais, self.burn, self.deviation = DecoderAIS(chains, schedule, transition, tune), burn, deviation

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a model without p(x|z), and images without a range, before any work."""
        super().setup(trainer, pl_module, stage)
        model = pl_module.model
        if self.deviation is None and (why := why_unfit(DecoderAIS, model)):
            raise TypeError(f"{why}; or write callbacks.likelihood.deviation, the s of N(E[x|z], s^2 I)")
        if self.deviation is not None and model.support == BINARY:
            raise ValueError(
                f"callbacks.likelihood.deviation is {self.deviation} for {type(model).__name__} over binary values, "
                "expected null: write null"
            )
        if pl_module.value_range is None and len(pl_module.shape) == 3:
            raise ValueError("callbacks.likelihood dequantises images in data.value_range, got null: write the range")
        self.binarise = trainer.datamodule.binarise

    def publishes(self, module: Any) -> set[Name]:
        which, images = self.measured(module), module.value_range is not None
        sides = ("forward", "reverse") if has(module.model, Encoded) else ("forward",)
        quantities = ("log_likelihood", *(["bits_per_dim"] if images else []))
        names = {Name(f"ais/{quantity}", None, which, side) for quantity in quantities for side in sides}
        names |= {Name("bdmc/log_p", None, which, side) for side in ("forward", "reverse")}
        return names | {Name("bdmc/gap", None, which)}

    def spread(self, module: Any) -> bool:
        """Whether x is dequantised."""
        return module.model.support != BINARY and module.value_range is not None

    def work(self, module: Any) -> int:
        return self.ais.ticks(2 if has(module.model, Encoded) else 1) + self.ais.ticks(2)

    def block(self, module: Any, model: Any, x: Tensor, noise: torch.Generator, progress: Callable) -> Tensor:
        """Forward, its effective sample size and acceptance rate, reverse, and simulated data's two sides, (m, 6)."""
        encoder = model if has(model, Encoded) else None
        if self.deviation is not None:
            model, label = GaussianObservation(model, self.deviation), model.label
            model = model if label is None else model.with_label(label)
        if self.spread(module):
            x = dequantised(x, module.value_range, noise)
        path = self.ais.path(model, x, noise, progress)
        forward = self.ais.estimate(path, noise, None, progress)
        acceptance, reverse = path.acceptance() or 0.0, torch.zeros_like(forward.nats)
        if encoder is not None:
            mean, log_variance = (part.repeat_interleave(self.ais.chains, 0) for part in encoder.posterior(x))
            z = path.burn_in(encoder.sample_posterior(mean, log_variance, noise), self.burn, noise)
            reverse = self.ais.estimate(path, noise, z, progress).nats
        x, z = simulated(model, len(x), noise)
        path = self.ais.path(model, x, noise, progress)
        sides = [self.ais.estimate(path, noise, start, progress).nats for start in (None, self.repeated(z))]
        rate = torch.full_like(forward.nats, acceptance)
        return torch.stack([forward.nats, forward.ess, rate, reverse, *sides], dim=1)

    def repeated(self, z: Tensor) -> Tensor:
        """z of each x for all of its chains, (m chains, L)."""
        return z.repeat_interleave(self.ais.chains, 0)

    def results(self, module: Any, rows: Tensor, n: int, fingerprint: str) -> list[Result]:
        d, which, spread, model = math.prod(module.shape), self.measured(module), self.spread(module), module.model
        own = model.deviation if self.deviation is None else self.deviation
        protocol = {
            **self.protocol(module, n, fingerprint),
            "observation": "bernoulli" if own is None else "gaussian",
            "deviation": own,
            "chains": self.ais.chains,
            "temperatures": len(self.ais.betas) - 1,
            "schedule": str(self.ais.schedule),
            "transition": self.ais.transition.describe(),
            "tuned": self.ais.tune,
            "acceptance": rows[:, 2].mean().item(),
            "ess": rows[:, 1].mean().item(),
            "binarisation": self.binarise or "none",
            "dequantisation": "uniform" if spread else "none",
            "bounds": "in expectation over the chains",
        }
        results = self.both(module, rows[:, 0], "forward", "lower bound", protocol, d)
        if has(model, Encoded):
            started = {"started": f"after {self.burn} steps from the encoder's samples", "bounds": "nothing"}
            results += self.both(module, rows[:, 3], "reverse", "estimate", protocol | started, d)
        made = protocol | {"data": "simulated by the model", "split": "none", "dequantisation": "none"}
        made["started"] = "exact samples"
        for side, kind, values in (("forward", "lower bound", rows[:, 4]), ("reverse", "upper bound", rows[:, 5])):
            results.append(Result.of_mean(values, kind, "nats", made, Name("bdmc/log_p", None, which, side)))
        gap = rows[:, 5] - rows[:, 4]
        return [*results, Result.of_mean(gap, "upper bound", "nats", made, Name("bdmc/gap", None, which))]

    def both(self, module: Any, nats: Tensor, side: str, kind: Any, protocol: dict, d: int) -> list[Result]:
        """Nats of a side, and bits/dim of images."""
        which = self.measured(module)
        results = [Result.of_mean(nats, kind, "nats", protocol, Name("ais/log_likelihood", None, which, side))]
        if module.value_range is not None:
            spread = self.spread(module)
            bits = bits_per_dim(nats, d, module.value_range) if spread else -nats / d / math.log(2)
            protocol = {**protocol, "levels": 256 if spread else 2}
            kind, name = "upper bound" if kind == "lower bound" else kind, Name("ais/bits_per_dim", None, which, side)
            results.append(Result.of_mean(bits, kind, "bits/dim", protocol, name))
        return results

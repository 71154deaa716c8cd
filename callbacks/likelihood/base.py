"""Likelihoods of a split's samples: DDPM's variational bound, and the probability-flow ODE's, in bits/dim and nats."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, Any

import torch
from annotated_types import Ge
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.callbacks.evaluation import pieces_of
from lightning_gen.callbacks.measuring import Measuring, Split
from lightning_gen.callbacks.publishing import step_of
from lightning_gen.errors import NonFinite
from lightning_gen.likelihood import (
    Bins,
    Convention,
    ODELikelihood,
    Variance,
    bits_per_dim,
    decoder_deviation,
    dequantised,
    variational_bound,
)
from lightning_gen.likelihood.dequantise import bins_protocol
from lightning_gen.models import Scored
from lightning_gen.options import Count
from lightning_gen.process import double
from lightning_gen.randomness import generator
from lightning_gen.results.result import Name, Result


class PerSample(Measuring):
    """What likelihoods share: each of the samples has a row of values, from blocks of `batch` samples that are dealt
    to the ranks and whose noise depends on (seed, block) alone; nothing is published that is not finite.

    Args:
        batch: samples of a block
        options: those of Measuring
    """

    key = "callbacks.likelihood"
    role = "likelihood"
    what = ""
    purpose = ""
    columns = 0
    latent = False

    def __init__(
        self, n: Annotated[int, Ge(2)] | None = None, split: Split = "test", batch: Count = 256, **options: Any
    ) -> None:
        super().__init__(n=n, split=split, **options)
        self.batch = batch

    @abstractmethod
    def work(self, module: Any) -> int:
        """How often a block calls `progress`."""

    @abstractmethod
    def block(self, module: Any, model: Scored, x: Tensor, noise: torch.Generator, progress: Callable) -> Tensor:
        """The values of each sample, (m, columns)."""

    @abstractmethod
    def results(self, module: Any, rows: Tensor, n: int, fingerprint: str) -> list[Result]:
        """What is published, from the rows of all samples, (n, columns), float64 on the CPU."""

    def measure(self, trainer: Trainer, module: Any, final: bool) -> list[Result]:
        data, device = trainer.datamodule, module.device
        split, n = self.samples_of(data)
        starts = range(trainer.global_rank * self.batch, n, trainer.world_size * self.batch)
        rows = double(torch.zeros(n, self.columns, device=device))
        pieces = pieces_of(trainer, self, n, self.batch)
        with (
            self.model(trainer, module) as model,
            self.bar(trainer, self.what, len(starts) * self.work(module)) as progress,
        ):
            for start in starts:
                kept = pieces and pieces.load(start // self.batch, device)
                if kept:
                    rows[start : start + self.batch] = kept["values"]
                    progress.update(self.work(module))
                    continue
                indices = torch.arange(start, min(start + self.batch, n))
                x = data.encode(split.take(indices)).to(device, module.dtype)
                label = split.labels(indices)
                batch = {} if label is None else {"label": label.to(device)}
                noise = generator(self.seed, self.purpose, start, device=device)
                values = self.block(module, module.labelled(model, batch), x, noise, progress.update)
                rows[start : start + len(x)] = values = double(values)
                if pieces:
                    pieces.store(start // self.batch, {"values": values})
        rows = trainer.strategy.reduce(rows, reduce_op="sum")
        if not torch.isfinite(rows).all():
            raise NonFinite(f"{self.what} not finite at step {step_of(trainer)}: the model's output is not finite")
        return self.results(module, rows.cpu().double(), n, split.fingerprint())

    def protocol(self, module: Any, n: int, fingerprint: str) -> dict[str, Any]:
        """What every likelihood's protocol has."""
        return {
            "split": self.split,
            "data": fingerprint,
            "n": n,
            "weights": self.measured(module),
            "seed": self.seed,
            "block": self.batch,
            "conditional": module.classes is not None,
        }


class Likelihood(PerSample):
    """Upper bound on -log2 p(x) / dim over `n` images of a split (null = all), with its three parts.

    vlb/bits_per_dim = prior L_T + diffusion sum L_{k-1} + decoder L_0; its error is the standard error over images.
    8-bit images are scored as they are, without dequantisation. DDPM (Ho et al., 2020, section 4.3),
    https://arxiv.org/abs/2006.11239

    Args:
        variance: of p(x_{k-1}|x_k): large, beta; small, the posterior's.
        convention: paper; or code, Ho et al.'s, in which their numbers are published: x_0 is clipped to the range, and
            L_0 decoded with the posterior's variance of k = 2 for both variances.
        options: those of PerSample.
    """

    needs = (Scored,)
    supports = ("real",)
    what = "bits/dim"
    purpose = "bound"
    columns = 3
    autocast = True

    def __init__(self, variance: Variance = "large", convention: Convention = "paper", **options: Any) -> None:
        super().__init__(**options)
        self.variance, self.convention = variance, convention

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if pl_module.model.process.steps is None:
            raise ValueError(
                f"callbacks.likelihood needs a discrete process, got {type(pl_module.model.process).__name__}: "
                "write callbacks.likelihood=null, or callbacks.likelihood._target_=callbacks.FlowLikelihood"
            )
        if pl_module.value_range is None:
            raise ValueError("callbacks.likelihood scores 8-bit images, got data without a range: write null for it")
        decoder_deviation(pl_module.model.process, self.variance, self.convention)  # refuses a process of one step

    def publishes(self, module: Any) -> set[Name]:
        names = ("bits_per_dim", "decoder", "diffusion", "prior")
        return {Name(f"vlb/{name}", None, self.measured(module)) for name in names}

    def work(self, module: Any) -> int:
        return module.model.process.steps

    def block(self, module: Any, model: Scored, x: Tensor, noise: torch.Generator, progress: Callable) -> Tensor:
        """Decoder, diffusion, prior, bits/dim, (m, 3)."""
        bits = variational_bound(model, x, noise, module.value_range, self.variance, progress, self.convention)
        return torch.stack([bits[:, 0], bits[:, 1:-1].sum(1), bits[:, -1]], dim=1)

    def results(self, module: Any, rows: Tensor, n: int, fingerprint: str) -> list[Result]:
        """The bound and its parts from per-image terms (n, 3): decoder, diffusion, prior."""
        protocol = {
            **self.protocol(module, n, fingerprint),
            "terms": module.model.process.steps + 1,
            "variance": self.variance,
            "convention": self.convention,
            "clip": list(module.value_range) if self.convention == "code" else "none",
            "decoder_deviation": decoder_deviation(module.model.process, self.variance, self.convention),
            "dequantisation": "none",
            **bins_protocol(module.value_range),
        }
        parts = {"bits_per_dim": rows.sum(1), "decoder": rows[:, 0], "diffusion": rows[:, 1], "prior": rows[:, 2]}
        names = {name: Name(f"vlb/{name}", None, self.measured(module)) for name in parts}
        return [Result.of_mean(x, "upper bound", "bits/dim", protocol, names[name]) for name, x in parts.items()]


class FlowLikelihood(PerSample):
    """-log p(x) by the probability-flow ODE over `n` samples of a split (null = all); `flow` null is the paper's RK45.

    8-bit images are dequantised, `draws` times each: ode/bits_per_dim, and ode/nll in nats an image, are means over
    the noise and so estimate an upper bound. Points are scored as they are: ode/nll in nats a point. The error is the
    standard error over samples of each sample's mean over draws, which holds what dequantisation and probes scatter.
    Outside autocast: the divergence sums derivatives with respect to x that half precision would drown.
    Score SDE (Song et al., 2021, section 4.3), https://arxiv.org/abs/2011.13456

    Args:
        draws: dequantisations of an image, or probes of a point, >= 1.
        flow: the ODE's estimator; null for the paper's RK45.
        bins: centred on the levels, of width range / 255; or within the range, range / 256, as in the authors' code.
        options: those of PerSample.
    """

    needs = (Scored,)
    supports = ("real",)
    what = "likelihood"
    purpose = "flow"
    columns = 3

    def __init__(
        self, draws: Count = 1, flow: ODELikelihood | None = None, bins: Bins = "centred", **options: Any
    ) -> None:
        super().__init__(**options)
        self.draws, self.flow, self.bins = draws, ODELikelihood() if flow is None else flow, bins

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if pl_module.value_range is None and len(pl_module.shape) == 3:
            raise ValueError("callbacks.likelihood dequantises images in data.value_range, got null: write the range")
        try:
            self.flow.check(pl_module.model)
        except ValueError as error:
            raise ValueError(f"{error}; or write callbacks.likelihood=null") from error

    def publishes(self, module: Any) -> set[Name]:
        names = ("nll",) if module.value_range is None else ("nll", "bits_per_dim")
        return {Name(f"ode/{name}", None, self.measured(module)) for name in names}

    def work(self, module: Any) -> int:
        return self.draws * self.flow.ticks

    def block(self, module: Any, model: Scored, x: Tensor, noise: torch.Generator, progress: Callable) -> Tensor:
        """Mean and variance over the draws of log p(x), nats, and the network's calls a draw, (m, 3)."""
        draws, calls = [], 0
        for _ in range(self.draws):
            spread = x if module.value_range is None else dequantised(x, module.value_range, noise, bins=self.bins)
            nats, called = self.flow(model, spread, noise, progress=progress)
            draws.append(nats)
            calls += called
        nats = torch.stack(draws)
        variance = nats.var(0) if self.draws > 1 else torch.zeros_like(nats[0])
        return torch.stack([nats.mean(0), variance, torch.full_like(variance, calls / self.draws)], dim=1)

    def results(self, module: Any, rows: Tensor, n: int, fingerprint: str) -> list[Result]:
        """Bits/dim of images, and nats, from each sample's mean and variance over the draws, and its calls."""
        process, d = module.model.process, math.prod(module.shape)
        nats, variance, calls = rows.unbind(1)
        protocol = {
            **self.protocol(module, n, fingerprint),
            **self.flow.describe(process, d),
            "prior": f"N(0, {process.prior_sigma:.6g}^2 I)",
            "draws": self.draws,
            "evaluations": calls.mean().item(),
            "dequantisation": "none" if module.value_range is None else "uniform",
        }
        if self.draws > 1:
            protocol["variance_share_of_draws"] = (variance.mean() / self.draws / nats.var()).item()

        def result(quantity: str, values: Tensor, unit: str, **more: Any) -> Result:
            name = Name(f"ode/{quantity}", None, self.measured(module))
            return Result.of_mean(values, "estimate", unit, {**protocol, **more}, name)

        if module.value_range is None:
            return [result("nll", -nats, "nats")]
        bits = bits_per_dim(nats, d, module.value_range, bins=self.bins)
        bound = {"of": "upper bound (Jensen)", **bins_protocol(module.value_range, bins=self.bins)}
        nats = bits * d * math.log(2)
        return [result("bits_per_dim", bits, "bits/dim", **bound), result("nll", nats, "nats", **bound)]

"""Likelihoods of a split's samples: DDPM's variational bound, and the probability-flow ODE's, in bits/dim and nats."""

import math
from abc import abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.bar import bar
from lightning_gen.callbacks.epochs import AtEpochs
from lightning_gen.callbacks.publish import publish
from lightning_gen.errors import NonFinite
from lightning_gen.likelihood import ODELikelihood, bits_per_dim, dequantised, variational_bound
from lightning_gen.models import Scored
from lightning_gen.randomness import generator
from lightning_gen.results.result import Result


class Scored(AtEpochs):
    """What likelihoods share: `n` samples of a split (null = all), dealt to the ranks in blocks of `batch`, whose noise
    depends on (seed, block) alone; when, of which weights, and that nothing is published that is not finite."""

    what = ""
    purpose = ""
    columns = 0
    autocast = True

    def keep(self, n: int | None, split: str, weights: str, batch: int, seed: int, every_n_epochs: int) -> None:
        """Check and keep the common options."""
        if n is not None and n < 2:
            raise ValueError(f"callbacks.likelihood.n is {n}: give at least 2, or null for the whole split")
        if split not in ("train", "val", "test") or weights not in ("ema", "raw") or batch < 1:
            raise ValueError(
                f"callbacks.likelihood needs split train, val or test, weights ema or raw, batch >= 1; "
                f"got {split}, {weights}, {batch}"
            )
        self.n, self.split, self.weights = n, split, weights
        self.batch, self.seed, self.every_n_epochs = batch, seed, every_n_epochs

    @abstractmethod
    def work(self, module: Any) -> int:
        """How often a block calls `progress`."""

    @abstractmethod
    def block(self, module: Any, model: Scored, x: Tensor, noise: torch.Generator, progress: Callable) -> Tensor:
        """The measured columns of each sample, (m, columns)."""

    @abstractmethod
    def results(self, module: Any, rows: Tensor, n: int, fingerprint: str) -> dict[str, Result]:
        """What is published, from the rows of all samples, (n, columns), float64 on the CPU."""

    @torch.inference_mode(False)  # a trainer of one's own tests in inference mode, where nothing has a derivative in x
    @torch.no_grad()
    def measure(self, trainer: Trainer, module: Any, final: bool) -> None:
        """Score every sample once."""
        data, device = trainer.datamodule, module.device
        split = data.split(self.split)
        n = len(split) if self.n is None else min(self.n, len(split))
        if n < 2:
            raise ValueError(f"callbacks.likelihood.split {self.split} has {n} samples: choose another split")
        model = module.weights(self.measured(module))
        starts = range(trainer.global_rank * self.batch, n, trainer.world_size * self.batch)
        rows = torch.zeros(n, self.columns, dtype=torch.float64, device=device)
        training = model.training
        model.eval()
        work, shown = len(starts) * self.work(module), trainer.is_global_zero
        context = trainer.precision_plugin.forward_context() if self.autocast else nullcontext()
        with context, bar(self.what, work, "step", 0, shown, False) as progress:
            for start in starts:
                indices = torch.arange(start, min(start + self.batch, n))
                x = data.encode(split.take(indices)).to(device)
                label = split.labels(indices)
                batch = {} if label is None else {"label": label.to(device)}
                noise = generator(self.seed, self.purpose, start, device=device)
                found = self.block(module, module.labelled(model, batch), x, noise, progress.update)
                rows[start : start + len(x)] = found.double()
        model.train(training)
        rows = trainer.strategy.reduce(rows, reduce_op="sum")
        if not torch.isfinite(rows).all():
            raise NonFinite(f"{self.what} not finite at step {trainer.global_step}: the model's output is not finite")
        publish(trainer, self.results(module, rows.cpu(), n, split.fingerprint()), final)

    def measured(self, module: Any) -> Literal["ema", "raw"]:
        """Which weights are measured."""
        return self.weights if module.ema is not None else "raw"

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


class Likelihood(Scored):
    """Upper bound on -log2 p(x) / dim over `n` images of a split (null = all), with its three parts.

    vlb/bits_per_dim = prior L_T + diffusion sum L_{k-1} + decoder L_0; its error is the standard error over images.
    8-bit images are scored as they are: no dequantisation, no clipping. DDPM (Ho et al., 2020, section 4.3).
    """

    what = "bits/dim"
    purpose = "bound"
    columns = 3

    def __init__(
        self,
        n: int | None = None,
        split: Literal["train", "val", "test"] = "test",
        variance: Literal["small", "large"] = "large",
        weights: Literal["ema", "raw"] = "ema",
        batch: int = 256,
        seed: int = 0,
        every_n_epochs: int = 0,
    ) -> None:
        self.keep(n, split, weights, batch, seed, every_n_epochs)
        if variance not in ("small", "large"):
            raise ValueError(f"callbacks.likelihood needs variance small or large, got {variance}")
        self.variance = variance

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what has no such bound before any work."""
        if pl_module.model.process.steps is None:
            raise ValueError(
                f"callbacks.likelihood needs a discrete process, got {type(pl_module.model.process).__name__}: "
                "write callbacks.likelihood=null, or callbacks.likelihood._target_=callbacks.FlowLikelihood"
            )
        if pl_module.value_range is None:
            raise ValueError("callbacks.likelihood scores 8-bit images, got data without a range: write null for it")

    def publishes(self, module: Any) -> set[str]:
        """The bound and its parts."""
        return {f"vlb/{name}/{self.measured(module)}" for name in ("bits_per_dim", "decoder", "diffusion", "prior")}

    def work(self, module: Any) -> int:
        """One step a term."""
        return module.model.process.steps

    def block(self, module: Any, model: Scored, x: Tensor, noise: torch.Generator, progress: Callable) -> Tensor:
        """Decoder, diffusion, prior, bits/dim, (m, 3)."""
        bits = variational_bound(model, x, noise, module.value_range, self.variance, progress)
        return torch.stack([bits[:, 0], bits[:, 1:-1].sum(1), bits[:, -1]], dim=1)

    def results(self, module: Any, rows: Tensor, n: int, fingerprint: str) -> dict[str, Result]:
        """The bound and its parts from per-image terms (n, 3): decoder, diffusion, prior."""
        measured = self.measured(module)
        protocol = {
            **self.protocol(module, n, fingerprint),
            "terms": module.model.process.steps + 1,
            "variance": self.variance,
            "levels": 256,
            "dequantisation": "none",
        }

        def result(values: Tensor) -> Result:
            return Result(values.mean().item(), "upper bound", values.std().item() / n**0.5, "bits/dim", protocol)

        names = {"decoder": rows[:, 0], "diffusion": rows[:, 1], "prior": rows[:, 2]}
        parts = {f"vlb/{name}/{measured}": result(values) for name, values in names.items()}
        return {f"vlb/bits_per_dim/{measured}": result(rows.sum(1)), **parts}


class FlowLikelihood(Scored):
    """-log p(x) by the probability-flow ODE over `n` samples of a split (null = all); `flow` null is the paper's RK45.

    8-bit images are dequantised, `draws` times each: ode/bits_per_dim, and ode/nll in nats an image, are means over
    the noise and so estimate an upper bound. Points are scored as they are: ode/nll in nats a point. The error is the
    standard error over samples of each sample's mean over draws, which holds what dequantisation and probes scatter.
    Outside autocast: the divergence sums derivatives with respect to x that half precision would drown.
    Score SDE (Song et al., 2021, section 4.3), https://arxiv.org/abs/2011.13456
    """

    what = "likelihood"
    purpose = "flow"
    columns = 3
    autocast = False

    def __init__(
        self,
        n: int | None = None,
        split: Literal["train", "val", "test"] = "test",
        weights: Literal["ema", "raw"] = "ema",
        batch: int = 256,
        seed: int = 0,
        draws: int = 1,
        every_n_epochs: int = 0,
        flow: ODELikelihood | None = None,
    ) -> None:
        self.keep(n, split, weights, batch, seed, every_n_epochs)
        if draws < 1:
            raise ValueError(f"callbacks.likelihood.draws is {draws}: give at least 1")
        self.draws, self.flow = draws, ODELikelihood() if flow is None else flow

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a model without a path to a known law, and images whose bins are not known, before any work."""
        if pl_module.value_range is None and len(pl_module.shape) == 3:
            raise ValueError("callbacks.likelihood dequantises images in data.value_range, got null: write the range")
        try:
            self.flow.check(pl_module.model.process)
        except ValueError as error:
            raise ValueError(f"{error}; or write callbacks.likelihood=null") from error

    def publishes(self, module: Any) -> set[str]:
        """Nats, and of images bits/dim."""
        names = ("nll",) if module.value_range is None else ("nll", "bits_per_dim")
        return {f"ode/{name}/{self.measured(module)}" for name in names}

    def work(self, module: Any) -> int:
        """The solver's steps, or parts of its path, for each draw."""
        return self.draws * self.flow.ticks

    def block(self, module: Any, model: Scored, x: Tensor, noise: torch.Generator, progress: Callable) -> Tensor:
        """Mean and variance over the draws of log p(x), nats, and the network's calls a draw, (m, 3)."""
        found, calls = [], 0
        for _ in range(self.draws):
            spread = x if module.value_range is None else dequantised(x, module.value_range, noise)
            nats, called = self.flow(model, spread, noise, progress=progress)
            found.append(nats)
            calls += called
        nats = torch.stack(found)
        variance = nats.var(0) if self.draws > 1 else torch.zeros_like(nats[0])
        return torch.stack([nats.mean(0), variance, torch.full_like(variance, calls / self.draws)], dim=1)

    def results(self, module: Any, rows: Tensor, n: int, fingerprint: str) -> dict[str, Result]:
        """Bits/dim of images, and nats, from each sample's mean and variance over the draws, and its calls."""
        measured, process, d = self.measured(module), module.model.process, math.prod(module.shape)
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

        def result(values: Tensor, unit: str, **more: Any) -> Result:
            error = values.std().item() / n**0.5
            return Result(values.mean().item(), "estimate", error, unit, {**protocol, **more})

        if module.value_range is None:
            return {f"ode/nll/{measured}": result(-nats, "nats")}
        bits, bound = bits_per_dim(nats, d, module.value_range), {"of": "upper bound (Jensen)", "levels": 256}
        return {
            f"ode/bits_per_dim/{measured}": result(bits, "bits/dim", **bound),
            f"ode/nll/{measured}": result(bits * d * math.log(2), "nats", **bound),
        }

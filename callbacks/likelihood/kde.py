"""Kernel density estimates of held-out data by a model's samples: a number for any family, and a poor one."""

import math
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.bar import bar
from lightning_gen.callbacks.epochs import AtEpochs
from lightning_gen.callbacks.publish import publish, step_of
from lightning_gen.callbacks.undisturbed import undisturbed
from lightning_gen.errors import NonFinite
from lightning_gen.likelihood import bits_per_dim, dequantised, kernel_density
from lightning_gen.likelihood.kde import WARNING
from lightning_gen.metrics.gather import gather_blocks, gather_problems
from lightning_gen.randomness import generator
from lightning_gen.results.result import Result


class KernelDensityLikelihood(AtEpochs):
    """kde/log_likelihood, nats, of `points` samples of a split under a Gaussian about each of `n` of the model's.

    Of kind KDE, never to be ranked with bounds: read its warning in the protocol. `…/held-out` is the same with n
    training samples in the place of the model's: what a perfect model would get, and models have got more. Images are
    dequantised, over the bins of 256 levels, of 2 where they are binarised; kde/bits_per_dim stands beside the nats of
    model space. n (n + points) d operations a bandwidth: 10,000 samples of 784 pixels take hours.
    """

    def __init__(
        self,
        n: int = 1000,
        points: int = 1000,
        split: Literal["val", "test"] = "test",
        weights: Literal["ema", "raw"] = "ema",
        folds: int = 5,
        block: int = 64,
        seed: int = 0,
        every_n_epochs: int = 0,
    ) -> None:
        super().__init__()
        if not 2 <= folds <= n or points < 2 or block < 1 or every_n_epochs < 0:
            raise ValueError(
                "callbacks.kde needs 2 <= folds <= n, points >= 2, block >= 1, every_n_epochs >= 0, "
                f"got {folds}, {n}, {points}, {block}, {every_n_epochs}"
            )
        if split not in ("val", "test") or weights not in ("ema", "raw"):
            raise ValueError(f"callbacks.kde needs split val or test, weights ema or raw, got {split}, {weights}")
        self.n, self.points, self.split, self.weights, self.folds = n, points, split, weights, folds
        self.block, self.seed, self.every_n_epochs = block, seed, every_n_epochs

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be drawn or compared, before any work."""
        data = trainer.datamodule
        if pl_module.sampler is None:
            raise ValueError("callbacks.kde draws samples, and module.sampler is null: choose one with sampler=NAME")
        if pl_module.value_range is None and len(pl_module.shape) == 3:
            raise ValueError("callbacks.kde dequantises images in data.value_range, got null: write the range")
        for name, least in ((self.split, 2), ("train", self.folds)):
            if len(data.split(name)) < least:
                raise ValueError(f"callbacks.kde needs {least} samples or more in the {name} split of {data.name}")

    @torch.no_grad()
    def measure(self, trainer: Trainer, module: Any, final: bool) -> None:
        """Draw on all ranks, estimate on rank 0."""
        with undisturbed(module):
            samples = self.drawn(trainer, module)
        results = self.results(trainer, module, samples, final) if trainer.is_global_zero else None
        publish(trainer, trainer.strategy.broadcast(results), final)

    def measured(self, module: Any) -> Literal["ema", "raw"]:
        """Which weights are measured."""
        return self.weights if module.ema is not None else "raw"

    def drawn(self, trainer: Trainer, module: Any) -> Tensor:
        """n samples in model space, (n, d), on every rank; NonFinite on all where one has one that is not finite."""
        rank, world = trainer.global_rank, trainer.world_size
        share = {"size": self.block, "rank": rank, "world": world}
        rows = [torch.empty(0, math.prod(module.shape), device=module.device)]
        work, shown = module.work(self.n, **share), trainer.is_global_zero
        with (
            trainer.precision_plugin.forward_context(),
            bar(f"{self.n} samples for a KDE", work, "step", 0, shown, False) as progress,
        ):
            share["progress"] = progress.update
            blocks = module.blocks(self.n, self.seed, weights=self.measured(module), **share)
            rows += [x.float().flatten(1) for _, x in blocks]
        mine = torch.cat(rows)
        fine = bool(torch.isfinite(mine).all())
        problem = None if fine else f"samples are not finite at step {step_of(trainer)}, rank {rank}: it has diverged"
        problem = gather_problems(problem, world)
        if problem is not None:
            raise NonFinite(problem)
        return gather_blocks(mine, self.n, self.block, rank, world).cpu()

    def results(self, trainer: Trainer, module: Any, samples: Tensor, final: bool) -> dict[str, Result]:
        """The model's, and finally that of training data."""
        data, measured = trainer.datamodule, self.measured(module)
        levels = None if module.value_range is None else 2 if getattr(data, "binarise", None) else 256
        split = data.split(self.split)
        count = min(self.points, len(split))
        x = self.seen(data, self.split, count, module, levels)
        protocol = {
            "warning": WARNING,
            "split": self.split,
            "data": split.fingerprint(),
            "n": count,
            "folds": self.folds,
            "seed": self.seed,
            "binarisation": getattr(data, "binarise", None) or "none",
            "dequantisation": "none" if levels is None else "uniform",
        }
        about = {"sampler": module.sampler.describe(), "weights": measured, "block": self.block}
        found = self.numbers(measured, samples, x, module, levels, {**protocol, "samples": self.n, **about})
        if final:
            n = min(self.n, len(data.split("train")))
            real = self.seen(data, "train", n, module, None)
            shown = {**protocol, "samples": n, "sampler": "training data"}
            found |= self.numbers("held-out", real, x, module, levels, shown)
        return found

    def seen(self, data: Any, name: str, count: int, module: Any, levels: int | None) -> Tensor:
        """`count` random samples of a split in model space, (count, d), dequantised if there are levels."""
        split = data.split(name)
        rows = torch.randperm(len(split), generator=generator(self.seed, "subset", "kde", name))[:count]
        x = data.encode(split.take(rows)).float()
        if levels is not None:
            x = dequantised(x, module.value_range, generator(self.seed, "dequantise", "kde", name), levels)
        return x.flatten(1)

    def numbers(
        self, label: str, samples: Tensor, x: Tensor, module: Any, levels: int | None, protocol: dict[str, Any]
    ) -> dict[str, Result]:
        """Nats, and bits/dim of images."""
        d = math.prod(module.shape)
        density = kernel_density(samples.numpy(), x.numpy(), self.folds, self.seed)
        protocol = {**protocol, "bandwidth": density.bandwidth, "bandwidths_tried": density.tried, "dimensions": d}
        nats = torch.from_numpy(density.nats)
        error = float(nats.std()) / len(nats) ** 0.5
        found = {f"kde/log_likelihood/{label}": Result(float(nats.mean()), "KDE", error, "nats", protocol)}
        if levels is not None:
            bits = float(bits_per_dim(nats, d, module.value_range, levels).mean())
            per_dim = Result(bits, "KDE", error / d / math.log(2), "bits/dim", {**protocol, "levels": levels})
            found[f"kde/bits_per_dim/{label}"] = per_dim
        return found

"""Kernel density estimates of held-out data by a model's samples: a number for any family, and a poor one."""

import math
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.callbacks.measuring import MeasuringSamples, stop_together
from lightning_gen.callbacks.publishing import step_of
from lightning_gen.likelihood import bits_per_dim, dequantised, kernel_density
from lightning_gen.likelihood.dequantise import bins_protocol
from lightning_gen.likelihood.kde import WARNING
from lightning_gen.metrics.gather import gather_blocks
from lightning_gen.options import Count
from lightning_gen.randomness import generator
from lightning_gen.results.result import HELD_OUT, Name, Result


class KernelDensityLikelihood(MeasuringSamples):
    """kde/log_likelihood, nats, of `points` samples of a split under a Gaussian about each of `n` of the model's.

    Of kind KDE, never to be ranked with bounds: read its warning in the protocol. `…/held-out` is the same with n
    training samples in the place of the model's: what a perfect model would get, and models have got more. Images are
    dequantised, over the bins of 256 levels, of 2 where they are binarised; kde/bits_per_dim stands beside the nats of
    model space. n (n + points) d operations a bandwidth: 10,000 samples of 784 pixels take hours.
    """

    key = "callbacks.kde"

    def __init__(
        self,
        n: int = 1000,
        points: Annotated[int, Ge(2)] = 1000,
        split: Literal["val", "test"] = "test",
        folds: Annotated[int, Ge(2)] = 5,
        block: Count | None = None,
        **options: Any,
    ) -> None:
        super().__init__(n=n, block=block, split=split, **options)
        if n < folds:
            raise ValueError(f"callbacks.kde.n is {n}, expected at least the {folds} folds: give more samples")
        self.points, self.folds = points, folds

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        data = self.data(trainer)
        if pl_module.sampler is None:
            raise ValueError("callbacks.kde draws samples, and module.sampler is null: choose one with sampler=NAME")
        if pl_module.value_range is None and len(pl_module.shape) == 3:
            raise ValueError("callbacks.kde dequantises images in data.value_range, got null: write the range")
        for name, least in ((self.split, 2), ("train", self.folds)):
            if len(data.split(name)) < least:
                raise ValueError(f"callbacks.kde needs {least} samples or more in the {name} split of {data.name}")

    def publishes(self, module: Any) -> set[Name]:
        quantities = ("log_likelihood", *(["bits_per_dim"] if module.value_range is not None else []))
        return {Name(f"kde/{quantity}", None, self.measured(module)) for quantity in quantities}

    def measure(self, trainer: Trainer, module: Any, final: bool) -> list[Result] | None:
        """Draw on all ranks, estimate on rank 0: the model's, and finally that of training data."""
        samples, data = self.drawn(trainer, module), trainer.datamodule
        if not trainer.is_global_zero:
            return None
        levels = None if module.value_range is None else 2 if data.binarise else 256
        split = data.split(self.split)
        count = min(self.points, len(split))
        x = self.rows(data, self.split, count, module, levels)
        protocol = {
            "warning": WARNING,
            "split": self.split,
            "data": split.fingerprint(),
            "n": count,
            "folds": self.folds,
            "seed": self.seed,
            "binarisation": data.binarise or "none",
            "dequantisation": "none" if levels is None else "uniform",
        }
        which = self.measured(module)
        own = {"samples": self.n, "sampler": module.sampler.describe(), "weights": which, "block": self.size(module)}
        results = self.estimates(which, samples, x, module, levels, {**protocol, **own})
        if final:
            n = min(self.n, len(data.split("train")))
            real = self.rows(data, "train", n, module, None)
            own = {"samples": n, "sampler": "training data"}
            results += self.estimates(HELD_OUT, real, x, module, levels, {**protocol, **own})
        return results

    def drawn(self, trainer: Trainer, module: Any) -> Tensor:
        """n samples in model space, (n, d), on every rank; NonFinite on all where one has one that is not finite."""
        rank, world = trainer.global_rank, trainer.world_size
        rows = [torch.empty(0, math.prod(module.shape), device=module.device)]
        with self.drawing(trainer, module, f"{self.n:,} samples for a KDE", self.n, self.size(module)) as blocks:
            rows += [block["x"].float().flatten(1) for _, block in blocks]
        own = torch.cat(rows)
        finite = bool(torch.isfinite(own).all())
        problem = f"samples are not finite at step {step_of(trainer)}, rank {rank}: the model has diverged"
        stop_together(trainer, None if finite else problem)
        return gather_blocks(own, self.n, self.size(module), rank, world).cpu()

    def rows(self, data: Any, name: str, count: int, module: Any, levels: int | None) -> Tensor:
        """`count` random samples of a split in model space, (count, d), dequantised if there are levels."""
        split = data.split(name)
        chosen = torch.randperm(len(split), generator=generator(self.seed, "subset", "kde", name))[:count]
        x = data.encode(split.take(chosen)).float()
        if levels is not None:
            x = dequantised(x, module.value_range, generator(self.seed, "dequantise", "kde", name), levels)
        return x.flatten(1)

    def estimates(
        self, label: str, samples: Tensor, x: Tensor, module: Any, levels: int | None, protocol: dict[str, Any]
    ) -> list[Result]:
        """Nats, and bits/dim of images, by samples (n, d) of points x (m, d)."""
        d = math.prod(module.shape)
        density = kernel_density(samples.numpy(), x.numpy(), self.folds, self.seed)
        protocol = {**protocol, "bandwidth": density.bandwidth, "bandwidths_tried": density.tried, "dimensions": d}
        nats = torch.from_numpy(density.nats)
        results = [Result.of_mean(nats, "KDE", "nats", protocol, Name("kde/log_likelihood", None, label))]
        if levels is not None:
            bits, name = bits_per_dim(nats, d, module.value_range, levels), Name("kde/bits_per_dim", None, label)
            protocol |= bins_protocol(module.value_range, levels)
            error = results[0].error / d / math.log(2)
            results.append(Result(float(bits.mean()), "KDE", error, "bits/dim", protocol, name=name))
        return results

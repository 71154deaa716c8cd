"""How a trained module draws: in blocks that any number of ranks repeats, from its averaged model, label by label."""

from collections.abc import Callable, Generator, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_gen.errors import NonFinite
from lightning_gen.models import Guided, Model
from lightning_gen.randomness import Rows, generator
from lightning_gen.samplers import Sampler

Weights = Literal["ema", "raw"]


class Sampling:
    """What GenerativeModule does after training; it needs model, ema, sampler, shape, value_range, classes."""

    def check(self, sampler: Sampler) -> None:
        """Raise TypeError or ValueError, one sentence, for a sampler that does not fit this model or its data."""
        sampler.check(self.model)
        sampler.plan(self.model, (1, *(self.shape or ())))
        if sampler.clip is not None and tuple(sampler.clip) != self.value_range:
            raise ValueError(
                f"sampler.clip is {list(sampler.clip)}, the data's range is {self.value_range}: write the range or null"
            )

    def check_label(self, label: int | None) -> None:
        """Raise ValueError, one sentence, for a label that the model does not know."""
        if label is not None and not (self.classes is not None and 0 <= label < self.classes):
            known = f"has the classes 0 to {self.classes - 1}" if self.classes else "is not conditional"
            raise ValueError(f"label is {label}, and the model {known}: write label=null, or one that it has")

    @property
    def averaged(self) -> Model:
        """The EMA model, or the raw one where no average is kept."""
        return self.model if self.ema is None else self.ema

    def weights(self, which: Weights) -> Model:
        """The averaged or the raw model; ValueError where no average is kept and it is asked for by name."""
        if which == "ema" and self.ema is None:
            raise ValueError("weights are ema, but module.ema_decay is null: ask for raw")
        return self.ema if which == "ema" else self.model

    def decode(self, x: Tensor) -> Tensor:
        """Model space -> images in [0, 1], not clamped; points of no range stay as they are."""
        if self.value_range is None:
            return x
        low, high = self.value_range
        return (x - low) / (high - low)

    def blocks(
        self,
        n: int,
        seed: int = 0,
        sampler: Sampler | None = None,
        weights: Weights | None = None,
        size: int = 64,
        rank: int = 0,
        world: int = 1,
        progress: Callable[[], Any] | None = None,
        label: int | None = None,
        counts: list[int] | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """(start index, x in model space (m, *shape)) of this rank's blocks of n samples.

        A block's noise depends on (seed, block) alone: any number of ranks draws the same n samples. Of the last block
        only the samples that are wanted are computed, where each depends on its own noise alone (`by_row`); else it is
        computed whole and cut. `progress` is called after each step of a block, `work` times in all; each block adds
        to `counts` how often it called the network.
        """
        for index in range(rank, -(-n // size), world):
            states = self.trajectory(size, seed, sampler, weights, index, label, min(size, n - index * size))
            x = next(states)
            while True:
                try:
                    x = next(states)
                except StopIteration as end:
                    if counts is not None:
                        counts.append(end.value)
                    break
                if progress is not None:
                    progress()
            yield index * size, x[: n - index * size]

    def work(self, n: int, sampler: Sampler | None = None, size: int = 64, rank: int = 0, world: int = 1) -> int:
        """Sampler steps that `blocks` takes on this rank."""
        plan = (sampler or self.sampler).plan(self.model, (size, *self.shape))
        return len(range(rank, -(-n // size), world)) * len(plan)

    @torch.no_grad()
    def trajectory(
        self,
        n: int,
        seed: int = 0,
        sampler: Sampler | None = None,
        weights: Weights | None = None,
        block: int = 0,
        label: int | None = None,
        wanted: int | None = None,
    ) -> Generator[Tensor, None, int]:
        """x (n, *shape) in model space from the start to the samples, at every step of the sampler; returns how often
        the network was called. A conditional model draws `label`, or all classes in turn. Where only the first `wanted`
        are, fewer may come: their noise is that of the whole block."""
        sampler = self.sampler if sampler is None else sampler
        if sampler is None or self.shape is None:
            raise ValueError("no sampler or no shape is known to the module: give module.sampler and module.shape")
        self.check(sampler)
        model = averaged = self.averaged if weights is None else self.weights(weights)
        noise = generator(seed, "sample", block, device=self.device)
        training = averaged.training
        averaged.eval()
        self.check_label(label)
        count = wanted if wanted is not None and sampler.by_row else n
        if self.classes is not None:
            labels = torch.arange(block * n, block * n + count, device=self.device) % self.classes
            labels = labels if label is None else torch.full_like(labels, label)
            model = Guided(model, labels, self.guidance, self.classes)
        try:
            x = sampler.start(model, (n, *self.shape), noise)[:count]
            calls = yield from sampler.trajectory(model, x, noise if count == n else Rows(noise, n))
        finally:
            averaged.train(training)
        return calls * model.evaluations

    @torch.no_grad()
    def sample(
        self, n: int, seed: int = 0, sampler: Sampler | None = None, size: int = 64, label: int | None = None
    ) -> Tensor:
        """n samples: images (n, C, H, W) in [0, 1], or points (n, d); the same as stage=sample draws with this seed."""
        x = torch.cat([x for _, x in self.blocks(n, seed, sampler, size=size, label=label)])
        if not torch.isfinite(x).all():
            raise NonFinite(f"samples are not finite (seed {seed}, sampler {type(sampler or self.sampler).__name__})")
        return self.decode(x) if self.value_range is None else self.decode(x).clamp(0, 1)

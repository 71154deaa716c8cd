"""Sampling from a trained module: in blocks with their own seeds, the same for any number of ranks."""

import math
from collections.abc import Callable, Generator, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_gen.errors import NonFinite
from lightning_gen.models import Energy, Guided, Model, Scored, has
from lightning_gen.options import Count, fits, kinds_of, words
from lightning_gen.randomness import UNIT, Numbered, generator
from lightning_gen.samplers import Sampler

Weights = Literal["ema", "raw"]
# Values of a sample times samples, of which a core or a GPU is full: with more a sample takes no less time.
FULL = {"cpu": 2**13}
FULL_GPU = 2**20
SHARES = 8  # blocks at least, where n allows it: so many processes share them


class Sampling:
    """Mixin of GenerativeModule: samples of its model or averaged model, by a sampler."""

    def check(self, sampler: Sampler) -> None:
        """TypeError or ValueError for a sampler that does not fit the model or the range of the data."""
        sampler.check(self.model)
        sampler.plan(self.model, (1, *(self.model_shape or ())))
        value_range = self.value_range if self.autoencoder is None else None
        if sampler.clip is not None and tuple(sampler.clip) != value_range:
            known = "null, for what the model draws has no range"
            known = known if value_range is None else f"the range of the model's data, {list(value_range)}, or null"
            raise ValueError(f"sampler.clip is {list(sampler.clip)}, expected {known}: write it")

    def check_label(self, label: int | None) -> None:
        """ValueError for a label that is not one of the classes."""
        if label is not None and not (self.classes is not None and 0 <= label < self.classes):
            if self.classes is None:
                told = "expected null for an unconditional model: leave label out, or train one with module.classes"
            else:
                told = f"expected 0 to {self.classes - 1}: write one of the classes, or label=null"
            raise ValueError(f"label is {label}, {told}")

    @property
    def averaged(self) -> Model:
        """The averaged model, or the raw one without ema_decay."""
        return self.model if self.ema is None else self.ema

    def weights(self, which: Weights) -> Model:
        """The averaged or the raw model; ValueError for ema without ema_decay."""
        if which == "ema" and self.ema is None:
            raise ValueError("weights is ema with module.ema_decay null, expected raw: write weights=raw")
        return self.ema if which == "ema" else self.model

    def decode(self, x: Tensor) -> Tensor:
        """Images in [0, 1] from model space, not clamped; points unchanged."""
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
        size: int | None = None,
        rank: int = 0,
        world: int = 1,
        progress: Callable[[], Any] | None = None,
        label: int | None = None,
        counts: list[int] | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """(start index, x in model space (m, *shape)) of this rank's blocks of n samples.

        Any number of ranks draws the same n samples. Where the sampler has `independent` samples, each is a function of
        the seed and its number, whatever the size of blocks, but for rounding, and the last block is computed in part;
        else a block is a function of (seed, block), and the last one is computed in full and cut.

        Args:
            n: number of samples over all ranks, >= 0.
            seed: of the noise.
            sampler: the sampler; None for the module's.
            weights: ema or raw; None for the averaged model if there is one.
            size: samples per block, >= 1; None for `block_size`.
            rank: this rank, in [0, world).
            world: number of ranks.
            progress: called after each step of a block, `work` times in all.
            label: the class to draw; None for all classes in turn.
            counts: list to which each block appends its number of network evaluations.
        """
        size, sampler = size or self.block_size(n, sampler), self.fitting(sampler, label)
        for index in range(rank, -(-n // size), world):
            states = self.chain(size, seed, sampler, weights, index, label, min(size, n - index * size))
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
            yield index * size, self.decoded(x[: n - index * size])

    def chosen(self, sampler: Sampler | None) -> Sampler:
        """The sampler, by default the module's; ValueError where it has none, or no shape of a sample."""
        sampler = self.sampler if sampler is None else sampler
        if sampler is None or self.shape is None:
            missing = "module.sampler" if sampler is None else "module.shape"
            raise ValueError(f"{missing} is null, expected one, for samples are to be drawn: write it")
        return sampler

    def fitting(self, sampler: Sampler | None, label: int | None) -> Sampler:
        """The sampler; TypeError or ValueError where it or the label does not fit."""
        sampler = self.chosen(sampler)
        self.check(sampler)
        self.check_label(label)
        return sampler

    def block_size(self, n: int, sampler: Sampler | None = None) -> int:
        """Samples that are drawn together of n: so many that the device is full, and its memory constant in n.

        UNIT where the samples depend on it, and fewer than fill the device where n has no SHARES of those.
        """
        sampler = self.sampler if sampler is None else sampler
        if sampler is None or self.shape is None or not sampler.independent:
            return UNIT
        values = max(math.prod(self.shape), math.prod(self.model_shape))  # codes are decoded together, too
        full = FULL.get(self.device.type, FULL_GPU) // (UNIT * values)
        return UNIT * max(1, min(full, -(-n // UNIT) // SHARES))

    def work(
        self, n: int, sampler: Sampler | None = None, size: int | None = None, rank: int = 0, world: int = 1
    ) -> int:
        """Number of sampler steps in `blocks` on this rank."""
        sampler, size = self.chosen(sampler), size or self.block_size(n, sampler)
        plan = sampler.plan(self.model, (size, *self.model_shape))
        return len(range(rank, -(-n // size), world)) * len(plan)

    def log_snr(self, n: int) -> list[float]:
        """log(alpha^2 / sigma^2) of each of the `states` of n samples by the module's sampler.

        0 without a process of noise, or without a step.
        """
        plan = self.chosen(None).plan(self.model, (n, *self.model_shape))
        if not plan or not has(self.model, Scored):
            return [0.0] * (len(plan) + 1)
        times = torch.tensor([plan[0].t, *(transition.s for transition in plan)], dtype=torch.float64)
        return self.model.process.snr(times).log().tolist()

    def trajectory(self, *args: Any, **kwargs: Any) -> Iterator[Tensor]:
        """The `states`, each in model space, (n, *shape): the codes of an autoencoder are decoded."""
        return map(self.decoded, self.states(*args, **kwargs))

    def states(
        self,
        n: int,
        seed: int = 0,
        sampler: Sampler | None = None,
        weights: Weights | None = None,
        block: int = 0,
        label: int | None = None,
        needed: int | None = None,
    ) -> Generator[Tensor, None, int]:
        """x (n, *model_shape) at the start and after every step; returns the number of network evaluations.

        The first `needed` samples alone are computed where the sampler allows it (`independent`), with the same noise.
        TypeError or ValueError, at once, where sampler or label does not fit.
        """
        return self.chain(n, seed, self.fitting(sampler, label), weights, block, label, needed)

    @torch.no_grad()
    def chain(
        self,
        n: int,
        seed: int,
        sampler: Sampler,
        weights: Weights | None,
        block: int,
        label: int | None,
        needed: int | None,
    ) -> Generator[Tensor, None, int]:
        """The `states` by a sampler that fits."""
        model = averaged = self.averaged if weights is None else self.weights(weights)
        training = averaged.training
        averaged.eval()
        count = needed if needed is not None and sampler.independent else n
        if self.classes is not None:
            labels = torch.arange(block * n, block * n + count, device=self.device) % self.classes
            labels = labels if label is None else torch.full_like(labels, label)
            guided = has(model, Scored) and not (has(model, Energy) and self.guidance == 1)
            model = Guided(model, labels, self.guidance, self.classes) if guided else model.with_label(labels)
        try:
            if sampler.independent:
                noise = Numbered(seed, "sample", block * n, count, self.device)
                x = noise.draw(lambda each: sampler.start(model, (UNIT, *self.model_shape), each))
            else:
                noise = generator(seed, "sample", block, device=self.device)
                x = sampler.start(model, (n, *self.model_shape), noise)
            calls = yield from sampler.trajectory(model, x, noise)
        finally:
            if training:
                averaged.train()
        return calls * model.evaluations

    @torch.no_grad()
    def sample(
        self, n: int, seed: int = 0, sampler: Sampler | None = None, size: int | None = None, label: int | None = None
    ) -> Tensor:
        """n samples as images (n, C, H, W) in [0, 1], or points (n, d), the same as stage=sample's with this seed.

        ValueError unless n is a whole number >= 1, NonFinite if a sample is not finite.
        """
        if not fits(n, kinds_of(Count)):
            raise ValueError(f"n is {n!r}, expected {words(kinds_of(Count))}: write 1")
        x = torch.cat([x for _, x in self.blocks(n, seed, sampler, size=size, label=label)])
        if not torch.isfinite(x).all():
            raise NonFinite(f"samples are not finite (seed {seed}, sampler {type(sampler or self.sampler).__name__})")
        return self.decode(x) if self.value_range is None else self.decode(x).clamp(0, 1)

"""Codes of images: a range coder driven by conditionals, and the length of one for a dequantised density."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_gen.errors import NonFinite, Unreadable
from lightning_gen.models import Autoregressive, Model, Normalised, Requires
from lightning_gen.options import Checked, Count
from lightning_gen.randomness import generator

PRECISION = 20  # the range coder's probabilities are whole multiples of 2^-20


def integer_counts(log_p: Tensor) -> np.ndarray:
    """Whole numbers >= 1 that sum to 2^20, near 2^20 p, (B, K), of log p, nats, (B, K); NonFinite for NaN.

    Each is rounded down, and the largest takes what is left: the same operations give the same counts.
    """
    total, p = 2**PRECISION, log_p.double().exp().cpu().numpy()
    if not np.isfinite(p).all():
        raise NonFinite("a probability of the coder is not finite: the model has diverged")
    counts = 1 + np.floor(p * (total - p.shape[1])).astype(np.int64)
    counts[np.arange(len(counts)), counts.argmax(1)] += total - counts.sum(1)
    return counts


class Code(Checked, Requires, ABC):
    """The base: how many bits an image needs.

    Args:
        batch: images side by side, >= 1.
    """

    role = "code"

    def __init__(self, batch: Count = 64) -> None:
        self.batch = batch

    @abstractmethod
    def bits(self, model: Model, x: Tensor, noise: torch.Generator) -> Tensor:
        """Bits of images x (B, *shape), float64, (B,); draws are from `noise`."""

    @torch.no_grad()
    def length(self, model: Model, x: Tensor, seed: int = 0) -> float:
        """Bits of all images x (N, *shape), the same for one seed of what is drawn."""
        noise = generator(seed, "dequantise", "code", device=x.device)
        return float(sum(self.bits(model, part, noise).sum() for part in x.split(self.batch)))


class DequantisedBound(Code):
    """-log2 p(y) + log2 q(y|x), y ~ q(y|x): an upper bound, in the mean over y, on -log2 P(x) of whole levels x.

    A density of real numbers has no probability of an image that a coder could take, and so no file.
    Flow++ (Ho et al., 2019), eq. 12, https://arxiv.org/abs/1902.00275

    Args:
        batch: images side by side, >= 1.
    """

    needs = (Normalised,)
    supports = ("real",)

    def check(self, model: Model) -> None:
        """TypeError for a model that does not fit; ValueError for a density of points."""
        super().check(model)
        if model.levels is None:
            raise ValueError(
                f"{type(model).__name__} is a density of real numbers, expected one of whole levels, which have a "
                "probability: train it on images, with a dequantiser"
            )

    def bits(self, model: Normalised, x: Tensor, noise: torch.Generator) -> Tensor:
        """The bound, by one y an image."""
        y, log_q = model.dequantise(x, noise)
        return -(model.log_prob(y) - log_q).double() / math.log(2)


class RangeCoder(Code):
    """Images as bits and back, value by value: x_i costs -log2 c(x_i) + 20 bits, c the counts of p(x_i | x_<i).

    Encoder and decoder compute the counts by one function, value by value, for the same images side by side: only so
    they are the same to the bit. A model of several orderings k codes an image by the best of them, which is named:
    -log2 max_k p_k(x) + log2 K bits, at most log2 K above -log2 p(x), p their mean. One stream has all images.
    The coder is that of constriction (Bamler, 2022), https://arxiv.org/abs/2201.01741

    Args:
        batch: images side by side, >= 1; a file can be read with the same one alone.
    """

    needs = (Autoregressive,)
    supports = ("binary", "levels")

    def bits(self, model: Autoregressive, x: Tensor, noise: torch.Generator) -> Tensor:
        """-log2 p(x), exactly, by parallel passes; nothing is drawn."""
        return -model.log_prob(x).double() / math.log(2)

    @torch.no_grad()
    def encode(self, model: Autoregressive, x: Tensor, progress: Callable = lambda: None) -> bytes:
        """The bits of images x (N, *shape) on the CPU, a whole number of 4 bytes; `progress`: called once a value."""
        coder, orderings = library().stream.queue.RangeEncoder(), model.net.orderings
        for part in x.to(next(model.net.parameters()).dtype).split(self.batch):
            chosen = best_orderings(model, part)
            if chosen is not None:
                coder.encode(chosen.numpy().astype(np.int32), uniform(orderings))
            filled(model, torch.zeros_like(part), chosen, partial(append, coder, part.flatten(1)), progress)
        return coder.get_compressed().astype("<u4").tobytes()

    @torch.no_grad()
    def decode(self, model: Autoregressive, code: bytes, n: int, progress: Callable = lambda: None) -> Tensor:
        """The n images (n, *shape) of `encode`; Unreadable for bits that are not of this model and arithmetic."""
        decoder = library().stream.queue.RangeDecoder(np.frombuffer(code, "<u4").astype(np.uint32))
        weight, orderings, parts = next(model.net.parameters()), model.net.orderings, []
        try:
            for size in (min(self.batch, n - start) for start in range(0, n, self.batch)):
                blank, chosen = weight.new_zeros(size, *model.net.shape), None
                if orderings > 1:
                    chosen = torch.from_numpy(decoder.decode(uniform(orderings), size)).long()
                parts.append(filled(model, blank, chosen, partial(take, decoder), progress))
        except AssertionError as error:  # constriction's, of bits that no encoder could have written
            raise Unreadable(f"the bits cannot be decoded ({error}): they are of another arithmetic") from error
        return torch.cat(parts)


def append(coder: Any, images: Tensor, counts: np.ndarray, places: Tensor) -> Tensor:
    """The values (B, 1) at these places of images (B, D), whose bits are appended."""
    values = images.gather(1, places)
    coder.encode(values.squeeze(1).numpy().astype(np.int32), categorical(), counts / 2**PRECISION)
    return values


def take(decoder: Any, counts: np.ndarray, places: Tensor) -> Tensor:
    """The next values (B, 1)."""
    return torch.from_numpy(decoder.decode(categorical(), counts / 2**PRECISION)).unsqueeze(1)


def best_orderings(model: Autoregressive, x: Tensor) -> Tensor | None:
    """The ordering of largest p_k(x) of each image, (B,); None for one ordering."""
    if model.net.orderings == 1:
        return None
    each = [model.log_conditionals(x, k).sum(1) for k in range(model.net.orderings)]
    return torch.stack(each).argmax(0)


def filled(
    model: Autoregressive, x: Tensor, orderings: Tensor | None, values_of: Callable, progress: Callable
) -> Tensor:
    """x (B, *shape) of zeros, filled value by value by `values_of`(counts (B, K), places (B, 1)) -> (B, 1)."""
    groups = model.groups(x, orderings)
    for i in range(math.prod(model.net.shape)):
        places = model.places(groups, x, i)
        values = values_of(integer_counts(model.table(groups, x, i)), places)
        x = x.flatten(1).scatter(1, places, values.to(x.dtype)).view_as(x)
        progress()
    return x


def library() -> Any:
    """constriction; ValueError where it is not installed."""
    try:
        import constriction
    except ImportError as error:
        raise ValueError(
            "the coder is the package constriction, which is not installed: pip install 'lightning-gen[compress]'"
        ) from error
    return constriction


def categorical() -> Any:
    """Laws given by their probabilities, which stay those of the counts but for less than one part in 2^24."""
    return library().stream.model.Categorical(perfect=False)


def uniform(count: int) -> Any:
    """The uniform law of 0..count - 1."""
    return library().stream.model.Uniform(count)

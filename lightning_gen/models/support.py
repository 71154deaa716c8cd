"""The sets that x may lie in."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

SUM_TOLERANCE = 1e-4  # of a point of the simplex
LOOKED_AT = 512  # points of the training data
SupportKind = Literal["real", "interval", "simplex", "binary", "levels", "counts"]


@dataclass(frozen=True)
class Support:
    """The set that x lies in; p(x) = 0 outside of it.

    real: all real numbers; interval: those from low to high; simplex: numbers > 0 whose sum is 1; binary: 0 and 1;
    levels: the whole numbers 0..K - 1; counts: all whole numbers 0, 1, ...

    Args:
        kind: one of these.
        levels: the number of values K; null where there are infinitely many, or K is unknown.
        low, high: ends of an interval.
        open: whether an interval is without its ends, as where log p may be infinite at them.
    """

    kind: SupportKind
    levels: int | None = None
    low: float = -math.inf
    high: float = math.inf
    open: bool = False

    def __str__(self) -> str:
        if self.kind == "interval" and self != Support("interval"):
            ends = f"from {self.low:g} to {self.high:g}"
            return f"numbers {ends} without the ends" if self.open else f"numbers {ends}"
        whole = "whole numbers" if self.levels is None else f"whole numbers below {self.levels}"
        names = {"real": "real numbers", "interval": "an interval", "simplex": "the simplex", "counts": "counts"}
        return (names | {"binary": "binary values", "levels": whole})[self.kind]

    def contains(self, x: Tensor) -> Tensor:
        """Whether each sample of x (B, ...) lies in it, (B,)."""
        rows = x.flatten(1)
        match self.kind:
            case "real":
                inside = torch.ones_like(rows, dtype=torch.bool)
            case "interval" if self.open:
                inside = (rows > self.low) & (rows < self.high)
            case "interval":
                inside = (rows >= self.low) & (rows <= self.high)
            case "simplex":
                inside = (rows > 0) & ((rows.sum(1, keepdim=True) - 1).abs() <= SUM_TOLERANCE)
            case "binary":
                inside = (rows == 0) | (rows == 1)
            case _:
                inside = (rows >= 0) & (rows == rows.round()) & (rows < (self.levels or math.inf))
        return inside.all(1)

    def check(self, data: Any) -> None:
        """ValueError for data that are encoded to values that do not lie in it, as far as a first look tells."""
        if self.kind == "levels" and (data.levels != self.levels or data.value_range != (0.0, self.levels - 1.0)):
            raise ValueError(
                f"data.value_range is {data.value_range} for the {data.levels} levels of {data.name}, expected "
                f"[0, {self.levels - 1}], the whole numbers below {self.levels}: set data.value_range to it"
            )
        if self.kind == "binary" and (data.binarise is None or data.value_range != (0.0, 1.0)):
            raise ValueError(
                f"data.binarise is {data.binarise} and data.value_range {data.value_range} for {data.name}, expected "
                "binary values: set data.binarise to fixed, stochastic or threshold, and data.value_range to [0.0, 1.0]"
            )
        if self.kind in ("interval", "simplex", "counts"):
            self.check_points(data)

    def check_points(self, data: Any) -> None:
        """ValueError for images, and for points of which one of the first does not lie in it."""
        if data.value_range is not None:
            raise ValueError(
                f"data.value_range is {data.value_range} for {data.name}, images, expected points, each in {self}: "
                "choose data of points"
            )
        x = data.encode(data.split("train").take(slice(0, LOOKED_AT)))
        if not self.contains(x).all():
            raise ValueError(
                f"{data.name} has points of values from {x.min():.4g} to {x.max():.4g}, expected each in {self}: "
                "choose other data, or a model over real numbers"
            )


REAL = Support("real")
NON_NEGATIVE = Support("interval", low=0.0)
POSITIVE = Support("interval", low=0.0, open=True)
UNIT = Support("interval", low=0.0, high=1.0, open=True)
SIMPLEX = Support("simplex")
COUNTS = Support("counts")
BINARY = Support("binary", 2)


def levels(count: int) -> Support:
    """The whole numbers 0..count - 1: 256 for 8-bit images."""
    return Support("levels", count)

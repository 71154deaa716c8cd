"""What a measurement returns: a number never travels without its kind, its error and its protocol."""

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["exact", "lower bound", "upper bound", "estimate", "KDE"]


@dataclass(frozen=True)
class Result:
    """A measured number: value in `unit`, standard error or None, its kind, and the protocol that gave it."""

    value: float
    kind: Kind
    error: float | None = None
    unit: str = ""
    protocol: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain containers, as metrics.json stores them."""
        return {
            "value": self.value,
            "error": self.error,
            "kind": self.kind,
            "unit": self.unit,
            "protocol": dict(self.protocol),
        }


class NonFinite(RuntimeError):
    """A loss, gradient, sample or feature is NaN or infinite; the message names quantity, step and rank."""


class Stopped(Exception):
    """A signal asked the run to stop; everything is saved and the same command resumes (exit code 75)."""
